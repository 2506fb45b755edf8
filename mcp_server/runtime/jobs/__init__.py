"""Jobs: durable work that outlives a call, on DBOS. This package is the only importer of `dbos`.

inline      short work done in the server itself, the rest submitted
queue       what a server sees: submit, watch, list and cancel jobs; schedules
workflows   what a worker runs: one durable workflow a kind of job
worker      the process that runs them: signs of life, recovery of dead workers' jobs
supervisor  how a server keeps a worker of its own running
"""
