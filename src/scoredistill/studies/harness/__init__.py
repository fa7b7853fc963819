"""What all studies share: running jobs, statistics, verdicts on claims, tables and reports."""
