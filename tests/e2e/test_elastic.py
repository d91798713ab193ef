"""An elastic job on the real local engine: it shrinks for another, goes on from its checkpoint, knows its size."""

from __future__ import annotations

from running import Row, Running, end_of, log_text, until

GPU = {"gpu": "H100:1", "cpu": 0.1, "memory": "64MB"}
# The leader counts up, a number in each checkpoint; all others only wait. A checkpoint is complete once it is renamed.
TRAIN = """
at=0
last=$(ls "$HEADFRAME_CHECKPOINTS" | sort -n | tail -n 1)
[ -n "$last" ] && at=$(cat "$HEADFRAME_CHECKPOINTS/$last")
echo "attempt $HEADFRAME_ATTEMPT of $NNODES from $at"
while [ "$NODE_RANK" != 0 ]; do sleep 0.1; done
while [ "$at" -lt 400 ]; do
  at=$((at + 1))
  echo $at > "$HEADFRAME_CHECKPOINTS/.new" && mv "$HEADFRAME_CHECKPOINTS/.new" "$HEADFRAME_CHECKPOINTS/$at"
  echo "saved $at"
  sleep 0.05
done
"""


def test_an_elastic_job_shrinks_before_it_has_to_end_and_knows_its_size(running: Running) -> None:
    client = running.client()
    elastic = client.submit(
        {
            "name": "elastic", "run": TRAIN, "nodes": "1..2", "resources": GPU, "purchase": "spot",
            "checkpoints": {"path": "ckpt", "keep": 1000}, "retry": {"on": ["preemption"], "max": 0},
        }
    )  # fmt: skip
    until(lambda: "saved 3" in log_text(client, elastic["id"]))
    assert "attempt 1 of 2 from 0" in log_text(client, elastic["id"])
    other = client.submit({"name": "other", "run": "sleep 1; echo here", "resources": GPU})
    assert end_of(client, other["id"])["state"] == "succeeded"
    until(lambda: "attempt 2 of 1" in log_text(client, elastic["id"]))
    story: Row = client.story(elastic["id"])
    (order,) = [event for event in story["events"] if event["kind"] == "preemption_ordered"]
    assert (order["detail"]["cause"], "1 of its 2 nodes" in order["reason"]) == ("shrink", True)
    assert [len(held["slices"]) for held in story["allocations"]] == [2, 1]
    assert (story["job"]["failures"], story["job"]["attempt"]) == (0, 2)
    assert story["attempts"][1]["resumed_from"]
    began = int(log_text(client, elastic["id"]).rpartition("from ")[2].split()[0])
    assert began > 0, "it goes on where it was"
    client.stop(elastic["id"], "1s")
    end_of(client, elastic["id"])
