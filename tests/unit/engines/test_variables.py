"""What Slurm calls the same things: scripts that read it find it."""

from headframe.engines.variables import Places, slurm_twins, variables
from headframe.fleet.engine_words import Launch
from headframe.fleet.records import Share, Slice


def test_a_task_finds_what_slurm_would_tell_it():
    share = Share("acc_a", 3, "H100", 1000)
    slices = tuple(Slice(rank, f"nod_{rank}", 4500, 2048, 0, (share,)) for rank in range(2))
    launch = Launch("alc_x.3", 3, "job_x", "train", "org_x", 1, "prj_x", slices, {},
                    env={"HEADFRAME_PROJECT": "research", "HEADFRAME_ARRAY_INDEX": "7"})  # fmt: skip
    values = variables(launch, 1, Places("/w", "/c", "/o", "/d", "/h"), hosts=["10.0.0.1", "10.0.0.2"], port=1,
                       devices={}, fake=False, path="/bin")  # fmt: skip
    found = slurm_twins(launch, 1, values)
    assert not found.keys() & values.keys()
    assert {name.removeprefix("SLURM_"): value for name, value in found.items()} == {
        "JOB_ID": "job_x", "JOBID": "job_x", "JOB_NAME": "train", "JOB_ACCOUNT": "research",
        "JOB_NODELIST": "10.0.0.1,10.0.0.2", "NODELIST": "10.0.0.1,10.0.0.2", "JOB_NUM_NODES": "2", "NNODES": "2",
        "NTASKS": "2", "NPROCS": "2", "NTASKS_PER_NODE": "1", "NODEID": "1", "PROCID": "1", "LOCALID": "0",
        "SLURMD_NODENAME": "10.0.0.2", "LAUNCH_NODE_IPADDR": "10.0.0.1", "CPUS_ON_NODE": "4", "CPUS_PER_TASK": "4",
        "MEM_PER_NODE": "2048", "RESTART_COUNT": "2", "SUBMIT_DIR": "/w", "GPUS_ON_NODE": "1", "GPUS_PER_NODE": "1",
        "JOB_GPUS": "3", "ARRAY_TASK_ID": "7",
    }  # fmt: skip
