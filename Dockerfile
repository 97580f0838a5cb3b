# TinyMetaFed with the compilers and emulators of all boards, from Debian and PyPI alone.
#
#   docker build --tag tinymetafed .
#   docker run --rm tinymetafed demo
#   docker run --rm --volume "$PWD:/work" --device /dev/ttyACM0 --group-add dialout tinymetafed train experiment.toml --device /dev/ttyACM0

FROM debian:bookworm-slim AS wheel
RUN apt-get update --quiet \
 && apt-get install --yes --quiet --no-install-recommends ca-certificates python3 python3-venv \
 && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /build
COPY . /source
RUN /build/bin/pip wheel --quiet --no-deps --wheel-dir /wheels /source

FROM debian:bookworm-slim
RUN apt-get update --quiet \
 && apt-get install --yes --quiet --no-install-recommends ca-certificates python3 python3-venv \
 && rm -rf /var/lib/apt/lists/*
# Which packages a board needs stands in its file, boards/NAME.json.
COPY --from=wheel /source /setup
RUN python3 /setup/scripts/setup.py packages \
 && rm -rf /setup /var/lib/apt/lists/*
COPY --from=wheel /wheels /wheels
RUN python3 -m venv /opt/tinymetafed \
 && /opt/tinymetafed/bin/pip install --quiet --no-cache-dir /wheels/*.whl \
 && rm -rf /wheels
ENV PATH=/opt/tinymetafed/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
RUN useradd --create-home --groups dialout learner \
 && install --directory --owner learner /work
USER learner
WORKDIR /work
RUN tinymetafed doctor
ENTRYPOINT ["tinymetafed"]
CMD ["--help"]
