"""TOML texts that Python's own reader ends on in another way than on a mistake, or that what reads them afterwards would."""

HARMFUL_TOML = {
    "lists in each other": "x = " + "[" * 100_000,
    "tables in each other": "x = " + "{a = " * 2_000 + "1" + "}" * 2_000,
    "one long key": "[model]\nlayers." + ".".join("a" * 3_000) + " = 1",
    "a number of 5,000 digits": "[run]\nrounds = " + "9" * 5_000,
    "a day that there is not": "[run]\nrounds = 2026-02-31",
}
