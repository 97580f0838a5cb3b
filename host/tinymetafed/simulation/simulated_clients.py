"""Simulated clients: the work of devices done in this process, with the same kernels and the same results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tinymetafed_codegen import protocol
from tinymetafed_codegen.optional_messages import part_messages, secure_messages
from tinymetafed_codegen.options.sample_parts import is_whole, part_bytes
from tinymetafed_codegen.protocol import Phase, Recipe, SampleSet, Status

from ..federation.clients import Adapted, DeviceFacts, Served, Traffic, TrainingFailed
from ..learn import masked_sum
from ..learn.codecs import downlink
from ..learn.codecs.delta import Sparse
from ..learn.codecs.downlink import Segment
from ..learn.strategies import Strategy
from ..learn.tasks import Floats, Samples, Task
from ..learn.weights import local_start
from ..wire.frame import encode
from ..wire.messages import fixed_on_wire, masked_entries
from .batches import Batch
from .client_rounds import ClientRound, TrainingClients
from .compilation import BOARD
from .downloads import Downloads
from .kernels import ClientKernels, SentMessages

URL = "simulation"  # the device's URL in the journal


@dataclass(frozen=True)
class Requests:
    """Requests that devices would have got: ``loads`` bring weights, ``samples`` a sample or a part of one, ``pulls`` ask for a
    part of an update, ``others`` are all that remain.
    """

    loads: int = 0
    samples: int = 0
    pulls: int = 0
    others: int = 0

    def __add__(self, more: Requests) -> Requests:
        """The sum, for instance of two rounds."""
        return Requests(
            self.loads + more.loads, self.samples + more.samples, self.pulls + more.pulls, self.others + more.others
        )


class SimulatedClients:
    """The clients of an experiment (clients.Clients), simulated; traffic is what devices would need on their lines."""

    def __init__(self, kernels: ClientKernels, strategy: Strategy, task: Task) -> None:
        self._kernels = kernels
        self._strategy = strategy
        self._task = task
        self._window: int = kernels.manifest.receive_window
        self._mac_bytes: int = kernels.manifest.mac_bytes
        self._seed = strategy.experiment.run.seed
        self._recipe = strategy.training_recipe()
        self._streams = not task.on_device(SampleSet.SUPPORT)
        self._downloads = Downloads(
            self._window, self._mac_bytes, by_difference=strategy.spec.takes_differences, measure=kernels.load_on_wire
        )
        self._local_weights: dict[int, Floats] = {}  # by client, flat
        self._residuals: dict[int, Floats] = {}  # by client
        model = strategy.experiment.model
        starts = local_start(kernels.manifest, model.local_start, model.local_start_scale)
        self._local_start = np.concatenate([tensor.ravel() for tensor in starts.values()] or [np.zeros(0, np.float32)])
        self.traffic = Traffic()
        self.requests = Requests()

    @property
    def devices(self) -> list[DeviceFacts]:
        """One entry that stands for all simulated clients."""
        return [DeviceFacts(URL, BOARD, "", self._window)]

    def exclude(self, board: str, why: str) -> None:
        """Nothing: there are no boards."""

    def remember(self, former: SimulatedClients) -> None:
        """Takes over what the clients of an earlier session have kept between rounds."""
        self._local_weights, self._residuals = dict(former._local_weights), dict(former._residuals)

    def train(
        self, weights: Floats, clients: Sequence[int], round_: int, boards: Sequence[bytes] | None = None
    ) -> list[Served[Sparse]]:
        """See Clients."""
        strategy, recipe = self._strategy, self._recipe
        download = strategy.downloaded(weights)
        received = downlink.decode(download, strategy.n_global)
        samples = self._samples(clients, round_, recipe.phases)
        taking_part = TrainingClients(
            self._seed, clients, round_, self._kept_local_weights(clients), self._kept_residuals(clients)
        )
        outcomes, sent = self._kernels.train_round(ClientRound(received, recipe, samples, taking_part, self._streams))
        served = []
        facts = strategy.secure_sum
        for client, outcome in zip(clients, outcomes, strict=True):
            if isinstance(outcome, Status):
                raise TrainingFailed(
                    f"client {client}: training failed in round {round_}: {outcome.name}; a learning rate that is too high is "
                    "the usual cause", outcome
                )  # fmt: skip
            if facts is not None:
                outcome = Sparse(outcome.indices, masked_sum.integers(outcome.values, facts).astype(np.float32))
            served.append(Served(outcome, URL, False, ""))
        if (local_weights := taking_part.local_weights) is not None:
            self._local_weights.update((client, row.copy()) for client, row in zip(clients, local_weights, strict=True))
        if (residuals := taking_part.residuals) is not None:
            self._residuals.update((client, row.copy()) for client, row in zip(clients, residuals, strict=True))
        if facts is not None:
            sent = self._masked(len(clients), recipe.top_k, sent.sample_bytes)
        self._count(clients, recipe, download, sent, samples[0].sample_bytes)
        return served

    def adapt(
        self,
        weights: Floats,
        clients: Sequence[int],
        count: int,
        on_client: Callable[[], None] = lambda: None,
        test_of: Callable[[int], Samples] | None = None,
    ) -> list[Adapted]:
        """See Clients."""
        return self._adapt(weights, clients, count, test_of or self._test, on_client, keep=False)

    def adapt_and_keep(self, weights: Floats, clients: Sequence[int], count: int) -> list[Adapted]:
        """As ``adapt``, with the trained weights of each client."""
        return self._adapt(weights, clients, count, self._test, lambda: None, keep=True)

    def adapt_and_score(
        self, weights: Floats, clients: Sequence[int], count: int, on_client: Callable[[], None]
    ) -> list[Adapted]:
        """As ``adapt``, but predicts all samples that a client can be scored on."""
        return self._adapt(
            weights, clients, count, lambda client: self._task.samples_to_score(client, count), on_client, keep=False
        )

    def predict(self, client: int, weights: Floats, test: Samples) -> Floats:
        """Predicts samples of one client with weights of its own, which are not trained.

        Args:
            client: Number of the client.
            weights: float32[n_parameters], global ones first; or float32[n_global] for local weights as they start.
            test: The samples.

        Returns:
            float32 [count, output_size].
        """
        n_global = self._strategy.n_global
        local = weights[n_global:].reshape(1, -1).copy() if weights.size > n_global else None
        taking_part = TrainingClients(self._seed, [client], 0, local)
        _, _, outputs = self._kernels.adapt(
            ClientRound(weights[:n_global].copy(), Recipe(()), [], taking_part), Batch.of([test])
        )
        outputs_of_client: Floats = outputs[0]
        return outputs_of_client

    def _test(self, client: int) -> Samples:
        return self._task.test_samples(client, 0)

    def _adapt(
        self,
        weights: Floats,
        clients: Sequence[int],
        count: int,
        test_of: Callable[[int], Samples],
        on_client: Callable[[], None],
        *,
        keep: bool,
    ) -> list[Adapted]:
        strategy, recipe = self._strategy, self._strategy.adaptation_recipe(count)
        received = downlink.decode(strategy.downloaded(weights), strategy.n_global)
        adapted = []
        size = self._kernels.threads * self._kernels.lanes
        for group in (clients[i : i + size] for i in range(0, len(clients), size)):
            tests = [test_of(client) for client in group]
            samples = self._samples(group, 0, recipe.phases)
            taking_part = TrainingClients(self._seed, group, 0)
            kept = np.zeros((len(group), self._kernels.manifest.n_parameters), np.float32) if keep else None
            statuses, before, after = self._kernels.adapt(
                ClientRound(received, recipe, samples, taking_part), Batch.of(tests), kept
            )
            for i, (client, status, test) in enumerate(zip(group, statuses, tests, strict=True)):
                if status != Status.OK:
                    after[i] = np.nan
                own = None if kept is None else kept[i]
                adapted.append(Adapted(client, test, before[i, : len(test)], after[i, : len(test)], own, count))
                on_client()
        return adapted

    def _kept_local_weights(self, clients: Sequence[int]) -> Floats | None:
        """The local weights after the clients' last rounds; None if local weights start anew in every round."""
        if not self._kernels.manifest.keeps_local:
            return None
        return np.stack([self._local_weights.get(client, self._local_start) for client in clients])

    def _kept_residuals(self, clients: Sequence[int]) -> Floats | None:
        """The part of the clients' deltas that was never sent; None unless the strategy has error feedback."""
        if not self._kernels.manifest.error_feedback:
            return None
        nothing = np.zeros(self._strategy.n_global, np.float32)
        return np.stack([self._residuals.get(client, nothing) for client in clients])

    def _samples(self, clients: Sequence[int], round_: int, phases: Sequence[Phase]) -> list[Batch]:
        """The samples of each phase; phases with the same samples share a batch."""
        batches: dict[tuple[SampleSet, int], Batch] = {}
        for phase in phases:
            chosen = phase.sample_set
            if (chosen, phase.count) in batches:
                continue
            if self._task.on_device(chosen):
                made = self._kernels.samples(self._seed, clients, round_, chosen, phase.count)
            else:
                made = Batch.of([self._task.samples(client, round_, chosen, phase.count) for client in clients])
            batches[chosen, phase.count] = made
        return [batches[phase.sample_set, phase.count] for phase in phases]

    def _masked(self, clients: int, entries: int, sample_bytes: int) -> SentMessages:
        """The messages with masked entries, as if no byte of these were 0. Keys, which travel once per run, do not count."""
        mac = self._mac_bytes
        most = masked_entries(self._window, mac)
        counts = [min(most, entries - at) for at in range(0, entries, most)]
        head = bytes(secure_messages.Masked.fixed_size())
        sizes = sum(len(encode(1, 1, head + b"\1" * (2 * count + mac))) for count in counts)
        sizes += fixed_on_wire(secure_messages.Opened, mac)
        return SentMessages(clients * len(counts), clients * sizes, sample_bytes)

    def _count(
        self, served: Sequence[int], recipe: Recipe, download: Sequence[Segment], sent: SentMessages, sample_bytes: int
    ) -> None:
        """Adds the traffic of a round on a line without losses, where each message is sent once.

        ``sample_bytes``: of one sample, its targets and its inputs.
        """
        mac, clients = self._mac_bytes, len(served)
        weights = self._downloads.send(served, download)
        progress = fixed_on_wire(protocol.Progress, mac)
        down = weights.bytes + clients * fixed_on_wire(protocol.Train, mac)
        if self._strategy.secure_sum is None:
            # PullCoded and PullLevels have the length of Pull.
            down += sent.messages * fixed_on_wire(protocol.Pull, mac)
        else:
            down += sent.messages * fixed_on_wire(secure_messages.PullMasked, mac)
            down += clients * fixed_on_wire(secure_messages.Open, mac)
        # The answers to Load, to LoadLevels and to a difference have the same length.
        up = weights.messages * fixed_on_wire(protocol.LoadAnswer, mac) + clients * progress + sent.message_bytes
        waiting = fixed_on_wire(protocol.Await, mac), progress
        samples_down, samples_up, parts, awaited = sent.sample_bytes, 0, 0, 1
        if self._streams:
            phases = recipe.phases
            sent_passes = self._kernels.manifest.passes_sent(phases)
            parts, answer = self._answers_to(sample_bytes)
            parts *= clients * sum(n * phase.count for n, phase in zip(sent_passes, phases, strict=True))
            following = [*sent_passes[1:], 1]
            awaited = sum(
                n < phase.passes and after > 0 for n, phase, after in zip(sent_passes, phases, following, strict=True)
            )
            samples_down += clients * awaited * waiting[0]
            samples_up = parts * answer + clients * awaited * waiting[1]
        else:
            down, up = down + clients * waiting[0], up + clients * waiting[1]
        opens = 0 if self._strategy.secure_sum is None else clients
        self.requests += Requests(weights.messages, parts, sent.messages, clients * (1 + awaited) + opens)
        self.traffic += Traffic(down + samples_down, up + samples_up, samples_down, samples_up, spared=weights.spared)

    def _answers_to(self, sample_bytes: int) -> tuple[int, int]:
        """The answers to one sample: how many, and the bytes of each."""
        if is_whole(sample_bytes, self._window, self._mac_bytes):
            return 1, fixed_on_wire(protocol.Progress, self._mac_bytes)
        parts = -(-sample_bytes // part_bytes(part_messages.SamplePart, self._window, self._mac_bytes))
        return parts, fixed_on_wire(part_messages.SampleTaken, self._mac_bytes)
