"""Many runs together: sweeps over options and seeds, and the tables of the papers measured again."""
