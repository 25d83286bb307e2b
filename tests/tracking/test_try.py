from tests.tracking.conftest import *
def show(name, c):
    print(f"--- {name}: code {c.process.exitcode}, {c.seconds:.1f}s\nOUT {c.out}ERR {c.err}")
def test_deleted(lab):
    lab.hold.touch()
    c=lab.lop(*TRACKED,*HELD,*SEEDS)
    until(lambda: lab.arrived(HELD_TASKS))
    shutil.rmtree(lab.sweep)
    t=time.monotonic(); lab.hold.unlink(); c.end(code=None); show("deleted", c); print("after release", time.monotonic()-t)
    print(list(lab.sweep.rglob("*"))[:20])
    print([(r.state, len(r.history)) for r in lab.server.runs.values()])
def test_one_deleted(lab):
    lab.hold.touch()
    c=lab.lop(*TRACKED,*HELD,*SEEDS, "hydra.launcher.workers=3","hydra.launcher.pack=1")
    until(lambda: lab.arrived(HELD_TASKS))
    shutil.rmtree(lab.runs[0])
    t=time.monotonic(); lab.hold.unlink(); c.end(code=None); show("one deleted", c); print("after release", time.monotonic()-t)
    print([(r.state, len(r.history)) for r in lab.server.runs.values()])
