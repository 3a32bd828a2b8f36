"A sweep in a Ray cluster of two machines, one of which is lost half-way. Skipped where ray is not installed; it is an extra."
import os

import pytest
from test_sweep import TEXTS, folder_of_whistler, make, statuses, twice, whistler  # noqa: F401

import voicelab as vl
from voicelab.backends import Pool

ray = pytest.importorskip("ray", reason="ray is not installed: pip install 'voicelab-workspace[ray]'")


@pytest.fixture(scope="module")
def cluster(root):
    "Two nodes on this machine, as they would be on two; their workers know the whistler."
    from ray.cluster_utils import Cluster
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WHISTLING", "1")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", os.pathsep.join([str(root), str(root / "tests"), os.environ.get("PYTHONPATH", "")]))
        node = dict(num_cpus=1, object_store_memory=200 * 2**20)
        made = Cluster(initialize_head=True, head_node_args=node | dict(include_dashboard=False))
        made.second = made.add_node(**node)
        ray.init(address=made.address, log_to_driver=False)
        try: yield made
        finally:
            ray.shutdown()
            made.shutdown()


def test_a_lost_machine_costs_nothing_but_time(make, cluster, monkeypatch):  # noqa: F811
    made, real, share_out, both = make(seeds=range(20)), vl.Sweep._keep, Pool.share_out, []
    def wait_for_both(pool):
        "No job is given before there is a worker on each machine."
        if both or sum(worker.ready for worker in pool.workers) == 2:
            both.append(True)
            return share_out(pool)
        while len(pool.workers) < 2: pool.workers.append(pool.start())
    def keep(self, *given):
        real(self, *given)
        if self is made and len(self.samples) == 10: cluster.remove_node(cluster.second)
    monkeypatch.setattr(Pool, "share_out", wait_for_both)
    monkeypatch.setattr(vl.Sweep, "_keep", keep)
    made.run("ray", workers=2)
    assert statuses(made) == {"ok": 60} and not twice(made) and not made.samples.orphans
    assert sum(node["Alive"] for node in ray.nodes()) == 1 and len({row["worker"] for row in made.samples.rows}) == 2
    here = make(made.folder.parent / "here", seeds=range(20)).run()
    codes = lambda sweep: {row["cell"]: row["hashes"]["codes"] for row in sweep.samples.rows}
    assert codes(made) == codes(here)
