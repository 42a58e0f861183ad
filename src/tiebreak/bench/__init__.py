"""Expand a suite file into benchmark cells, run each in a fresh process, store one record per run.

A room imports only from those above it, and no room of the manager's side imports a framework:

    clock, record, probe_table    time, one line of records.jsonl, the probes that there are
    record_fields                 fields of records and of suite.json, for the check of read files
    suite                         suite file -> Plan: cells, groups, runs, how much to measure
    machine                       fingerprint, canary, contention; whether a cell can run here
    probes  <-  worker            what a worker process builds, and how it measures that
    manager                       plan -> worker processes -> records in a results folder
    hosts                         a manager on each of several hosts; folders put together

Numbers travel from a worker to the manager as JSON only.
"""
