"""The way between server and gateways over Flower: a SuperLink hands the messages on, with TLS and authenticated gateways."""
