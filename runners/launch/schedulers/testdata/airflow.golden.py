"""Launches nightly-catalog. Written by "backbone schedule airflow"; change the launch file instead.

Needs apache-airflow-providers-apache-beam and apache-airflow-providers-google, which its operator imports on all runners, and the command and
the launch file at the paths below on each worker.
"""

from datetime import datetime, timedelta, timezone

from airflow import DAG
from airflow.providers.apache.beam.operators.beam import BeamRunGoPipelineOperator

try:
    from airflow.timetables.trigger import CronTriggerTimetable
except ImportError:
    from airflow.sdk import CronTriggerTimetable

with DAG(
    dag_id="nightly-catalog",
    schedule=CronTriggerTimetable("0 3 * * *", timezone="Europe/Berlin"),
    start_date=datetime(2020, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    max_active_runs=1,
    tags=["backbone"],
):
    BeamRunGoPipelineOperator(
        task_id="launch",
        launcher_binary="/usr/local/bin/backbone",
        runner="direct",
        pipeline_options={
            "pipeline": "launch",
            "file": "/etc/backbone/all of O'Brien's {{ '{' }}{{ '{' }} x }} \"shop\".yaml",
            # The tick; a run that was started by hand may have none, and takes the latest.
            "tick": "{{ data_interval_end | ts if data_interval_end else '' }}",
            "wait": True,
            # Ticks that were missed before it, as many as the launch file says.
            "catch_up": True,
        },
        # The launch tries again what fails. This is for workers that die: their lease has to run out.
        retries=2,
        retry_delay=timedelta(seconds=120),
    )
