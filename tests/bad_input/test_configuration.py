"""What is wrong on the command line is named, with what is allowed, before anything is run or written."""

from __future__ import annotations

from pathlib import Path

import pytest

from lop_sweeps.data import MNIST_FILES, mnist_folder
from lop_sweeps.errors import ConfigError, DataError
from tests import runs
from tests.bad_input.conftest import Command, idea

CBP, MNIST = "algorithm=continual_backprop", "benchmark=permuted_mnist"
IN_CBP = "algorithm.continual_backprop"
NOISE, IN_NOISE = "algorithm=shrink_and_perturb", "algorithm.shrink_and_perturb"
POSITIVE, PROBABILITY = "must be a finite number > 0", "must be a finite number >= 0 and < 1"
INTEGER = "must be an integer >= 0"

# name: overrides -> words of the message
ROWS: dict[str, tuple[list[str], list[str]]] = {
    # keys and choices
    "unknown key": (["optimizer.stepsize=0.1"], ["optimizer.stepsize", "did you mean step_size?", "weight_decay"]),
    "unknown group": (["optimiser=adam"], ["optimiser", "did you mean optimizer?"]),
    "unknown top-level key": (["foo=1"], ["foo", "precision, scale, seed"]),
    "added top-level key": (["+foo=1"], ["foo = 1", "precision, scale, seed"]),
    "added option": (["+optimizer.nesterov=true"], ["optimizer.nesterov", "not an option of SGD", "momentum"]),
    "added option, nearly": ([CBP, f"+{IN_CBP}.maturity=3"], [f"{IN_CBP}.maturity", "did you mean maturity_threshold"]),
    "added path": (["+paths.log=x"], ["paths.log", "data, sweeps"]),
    "added checkpoint key": (
        ["+checkpoint.often=1"],
        ["checkpoint.often", "is not a key of checkpoint", "every, first"],
    ),
    "key below a value": (["optimizer.step_size.a=3"], ["optimizer.step_size has no keys below it"]),
    "key below a list": (["network.hidden.a=3"], ["network.hidden has no keys below it"]),
    "option of another choice": (["network=linear", "network.hidden=[3]"], ["network has no key 'hidden'"]),
    "unknown benchmark": (["benchmark=cifar"], ["benchmark = 'cifar': must be one of", "permuted_digits"]),
    "unknown network": (["network=transformer"], ["network = 'transformer': must be one of", "mlp"]),
    "unknown optimizer": (["optimizer=lion"], ["optimizer = 'lion': must be one of", "adamw"]),
    "unknown algorithm": (["algorithm=cbp"], ["algorithm = 'cbp': must be one of", "continual_backprop"]),
    "one unknown algorithm of two": (
        ["algorithm=[l2,cbp]"],
        ["algorithm = 'cbp': must be one of", "continual_backprop"],
    ),
    "unknown experiment": (
        ["experiment=nature/nothing"],
        ["experiment = 'nature/nothing'", "demo_digits", "nature/..."],
    ),
    "group without a choice": (["network=null"], ["network=null", "must be a choice of the group", "mlp"]),
    "deleted group": (["~optimizer"], ["optimizer: must be a choice of the group"]),
    "deleted benchmark": (["~benchmark"], ["benchmark: must be given"]),
    "deleted key": (["~seed"], ["seed: must be an integer >= 0"]),
    "unknown variable": (["optimizer.step_size=${speed}"], ["optimizer.step_size", "'speed' not found"]),
    "unknown environment variable": (["seed=${oc.env:LOP_NO_SEED}"], ["seed", "LOP_NO_SEED"]),
    # tracking
    "nearly an algorithm": (["algorithm=l2_ini"], ["algorithm = 'l2_ini': must be one of", "did you mean l2_init?"]),
    "unknown tracking": (["tracking=tensorboard"], ["tracking = 'tensorboard': must be one of", "wandb"]),
    "tracking that is a number": (["tracking=3"], ["tracking", "must be a choice of the group"]),
    "tracking of another kind": (
        ["tracking=wandb", "tracking._target_=lop_sweeps.optimizers.sgd.SGD"],
        ["tracking._target_ = 'lop_sweeps.optimizers.sgd.SGD'", "must be a tracking of lop_sweeps.tracking"],
    ),
    "unknown tracking key": (["tracking=wandb", "tracking.projet=x"], ["tracking.projet", "did you mean project?"]),
    "tracking key without tracking": (["tracking.project=x"], ["tracking"]),
    "tracking mode": (["tracking=wandb", "tracking.mode=on"], ["tracking.mode", "online, offline, disabled"]),
    "no project": (["tracking=wandb", "tracking.project="], ["tracking.project = ''", "must be text"]),
    "one tag": (["tracking=wandb", "tracking.tags=mine"], ["tracking.tags = 'mine'", "list of texts"]),
    "job type of figures": (["tracking=wandb", "tracking.job_type=figures"], ["tracking.job_type", "take another"]),
    "patience": (["tracking=wandb", "tracking.patience=-1"], ["tracking.patience = -1", ">= 0"]),
    # optimisers
    "step size negative": (["optimizer.step_size=-1"], ["optimizer.step_size = -1", POSITIVE]),
    "step size 0": (["optimizer.step_size=0"], ["optimizer.step_size = 0", POSITIVE]),
    "step size nan": (["optimizer.step_size=nan"], ["optimizer.step_size = nan", POSITIVE]),
    "step size inf": (["optimizer.step_size=inf"], ["optimizer.step_size = inf", POSITIVE]),
    "step size text": (["optimizer.step_size=fast"], ["optimizer.step_size = 'fast'", POSITIVE]),
    "step size null": (["optimizer.step_size=null"], ["optimizer.step_size", POSITIVE]),
    "step size true": (["optimizer.step_size=true"], ["optimizer.step_size = True", POSITIVE]),
    "momentum 1": (["optimizer.momentum=1.0"], ["optimizer.momentum = 1.0", PROBABILITY]),
    "weight decay negative": (["optimizer.weight_decay=-1e-4"], ["optimizer.weight_decay = -0.0001", ">= 0"]),
    "beta1": (["optimizer=adam", "optimizer.beta1=1"], ["optimizer.beta1 = 1", PROBABILITY]),
    "beta2": (["optimizer=adamw", "optimizer.beta2=1"], ["optimizer.beta2 = 1", PROBABILITY]),
    "decay_at": (
        ["benchmark=continual_imagenet", "optimizer.decay_at=[1.5]"],
        ["optimizer.decay_at[0] = 1.5", "> 0 and < 1"],
    ),
    "decay online": (["optimizer.decay_at=[0.5]"], ["optimizer.decay_at = [0.5]", "trains in epochs"]),
    "conv net without images": (
        ["benchmark=slowly_changing_regression", "network=conv_net"],
        ["network._target_", "needs images"],
    ),
    "conv net on small images": (["network=conv_net"], ["network.kernels", "8 x 8 pixels"]),
    "residual network online": (["network=resnet18"], ["network:", "batch_size > 1"]),
    "fused images": (
        ["benchmark=continual_imagenet", "engine=fused"],
        ["engine = 'fused'", "ConvNet is not a fully connected network", "use engine=auto"],
    ),
    "sum of utilities": (
        ["algorithm=continual_backprop", "algorithm.continual_backprop.averaging=sum"],
        ["algorithm.continual_backprop.averaging", "weight and contribution"],
    ),
    "device": (["device=tpu"], ["device = 'tpu'", "auto, cpu, cuda"]),
    "reset_momentum": (["optimizer.reset_momentum=1"], ["optimizer.reset_momentum = 1", "true or false"]),
    # algorithms
    "replacement rate above 1": ([CBP, f"{IN_CBP}.replacement_rate=1.1"], [f"{IN_CBP}.replacement_rate = 1.1", "<= 1"]),
    "replacement rate negative": ([CBP, f"{IN_CBP}.replacement_rate=-1"], [f"{IN_CBP}.replacement_rate = -1", ">= 0"]),
    "one rate of a list": ([CBP, f"{IN_CBP}.replacement_rate=[0.1,2]"], [f"{IN_CBP}.replacement_rate[1] = 2", "<= 1"]),
    "too few rates": (
        [CBP, "network.hidden=[9,9,9]", f"{IN_CBP}.replacement_rate=[0.1,0.1]"],
        [f"{IN_CBP}.replacement_rate = [0.1, 0.1]", "one rate per hidden layer (3 here)"],
    ),
    "decay rate 1": ([CBP, f"{IN_CBP}.decay_rate=1"], [f"{IN_CBP}.decay_rate = 1", PROBABILITY]),
    "maturity negative": ([CBP, f"{IN_CBP}.maturity_threshold=-1"], [f"{IN_CBP}.maturity_threshold = -1", INTEGER]),
    "maturity 1.5": ([CBP, f"{IN_CBP}.maturity_threshold=1.5"], [f"{IN_CBP}.maturity_threshold = 1.5", INTEGER]),
    "utility": ([CBP, f"{IN_CBP}.utility=best"], [f"{IN_CBP}.utility = 'best'", "adaptable_contribution"]),
    "fractional": ([CBP, f"{IN_CBP}.fractional=round"], [f"{IN_CBP}.fractional = 'round'", "accumulate, bernoulli"]),
    "no hidden units": ([CBP, "network=linear"], [f"{IN_CBP}: needs a network with hidden units"]),
    "bias transfer before a norm": (
        [CBP, f"{IN_CBP}.bias_transfer=true", "network.norm=layer", "network.norm_after=true"],
        [f"{IN_CBP}.bias_transfer = True", "must be false where a normalisation follows"],
    ),
    "noise negative": ([NOISE, f"{IN_NOISE}.noise_std=-1"], [f"{IN_NOISE}.noise_std = -1", ">= 0"]),
    "noise now and then": (
        [NOISE, f"{IN_NOISE}.noise=sometimes"],
        [f"{IN_NOISE}.noise = 'sometimes'", "must be one of: per_step, lazy"],
    ),
    "intervention without a class": (["+algorithm.idea=3"], ["algorithm.idea = 3", "_target_"]),
    # networks
    "activation": (["network.activation=rleu"], ["network.activation = 'rleu'", "relu, leaky_relu, tanh"]),
    "activation a list": (["network.activation=[relu]"], ["network.activation = ['relu']", "relu, leaky_relu, tanh"]),
    "init": (["network.init=he"], ["network.init = 'he'", "kaiming, kaiming_ffnn, lecun"]),
    "norm": (["network.norm=group"], ["network.norm = 'group'", "none, layer, batch, online"]),
    "width 0": (["network.hidden=[10,0]"], ["network.hidden[1] = 0", "integer >= 1"]),
    "width negative": (["network.hidden=[-3]"], ["network.hidden[0] = -3", "integer >= 1"]),
    "width 1.5": (["network.hidden=[1.5]"], ["network.hidden[0] = 1.5", "integer >= 1"]),
    "width beyond measure": (["network.hidden=[99999999999999999999]"], ["network = ", "hidden", "MLP refuses"]),
    "hidden not a list": (["network.hidden=10"], ["network.hidden = 10", "a list of integers >= 1", "[100,100,100]"]),
    "dropout 1": (["network.dropout=1.0"], ["network.dropout = 1.0", PROBABILITY]),
    "batch norm online": (["network.norm=batch"], ["network.norm = 'batch'", "batch_size > 1", "norm=online"]),
    "online norm in batches": (
        ["network.norm=online", "scale=tiny", "benchmark.batch_size=10"],
        ["network.norm = 'online'", "batch_size = 1 (here 10)"],
    ),
    # lengths and everything else
    "no tasks": (["benchmark.num_tasks=0"], ["benchmark.num_tasks = 0", "integer >= 1"]),
    "batch size": (["benchmark.batch_size=7"], ["benchmark.batch_size = 7", "must divide examples_per_task (1797)"]),
    "slow bits": (
        ["benchmark=slowly_changing_regression", "benchmark.slow_bits=21"],
        ["benchmark.slow_bits = 21", ">= 1 and <= 20"],
    ),
    "scale": (["scale=huge"], ["scale = 'huge'", "tiny, small, paper"]),
    "scale a list": (["scale=[tiny]"], ["scale = ['tiny']", "tiny, small, paper"]),
    "engine": (["engine=warp"], ["engine = 'warp'", "must be one of: auto, fused, torch"]),
    "engine a list": (["engine=[fused]"], ["engine = ['fused']", "auto, fused, torch"]),
    "fused with a norm": (
        ["engine=fused", "network.norm=layer", "network.norm_after=true"],
        ["engine = 'fused'", "because it has no layer normalisation after activations", "use engine=auto"],
    ),
    "fused with a norm as algorithm": (
        ["engine=fused", "algorithm=online_norm"],
        ["engine = 'fused'", "because it has no online normalisation", "use engine=auto"],
    ),
    "fused with a shrinkage beyond reason": (
        ["engine=fused", "optimizer.step_size=1", "optimizer.weight_decay=0.6"],
        ["engine = 'fused'", "each step shrinks the weights to less than half", "use engine=auto"],
    ),
    "torch with lazy noise": (
        ["engine=torch", NOISE, f"{IN_NOISE}.noise=lazy"],
        ["engine = 'torch'", "cannot draw noise lazily", "noise=per_step, or engine=auto"],
    ),
    "lazy noise with continual backprop": (
        ["algorithm=[shrink_and_perturb,continual_backprop]", f"{IN_NOISE}.noise=lazy"],
        [f"{IN_NOISE}.noise = 'lazy'", "must be per_step here", "continual backprop needs the weights of every step"],
    ),
    "lazy noise with adam": (
        [NOISE, "optimizer=adam", f"{IN_NOISE}.noise=lazy"],
        [f"{IN_NOISE}.noise = 'lazy'", "must be per_step here", "goes with plain SGD"],
    ),
    "lazy noise with momentum": (
        [NOISE, "optimizer=momentum", f"{IN_NOISE}.noise=lazy"],
        [f"{IN_NOISE}.noise = 'lazy'", "must be per_step here", "goes with plain SGD"],
    ),
    "lazy noise with a norm": (
        ["algorithm=[shrink_and_perturb,online_norm]", f"{IN_NOISE}.noise=lazy"],
        [f"{IN_NOISE}.noise = 'lazy'", "must be per_step here", "it has no online normalisation"],
    ),
    "lazy noise on the fused engine with adam": (
        ["engine=fused", NOISE, "optimizer=adam", f"{IN_NOISE}.noise=lazy"],
        ["engine = 'fused'", "goes with plain SGD"],
    ),
    "precision": (["precision=float16"], ["precision = 'float16'", "float32, float64"]),
    "precision a list": (["precision=[float32]"], ["precision = ['float32']", "float32, float64"]),
    "seed negative": (["seed=-1"], ["seed = -1", INTEGER]),
    "seed 1.5": (["seed=1.5"], ["seed = 1.5", INTEGER]),
    "seed text": (["seed=first"], ["seed = 'first'", INTEGER]),
    "checkpoint time": (["checkpoint.every=-1"], ["checkpoint.every = -1", ">= 0"]),
    "checkpoint null": (["checkpoint=null"], ["checkpoint", "first, every"]),
    "data folder a number": (["paths.data=5"], ["paths.data = 5", "must be text"]),
    "sweep outside": (["sweep=../elsewhere"], ["sweep = '../elsewhere'", "<paths.sweeps>/<sweep>"]),
    "trusted not a list": (["trusted=os"], ["trusted = 'os'", "must be a list of module names"]),
    # classes
    "untrusted class": (
        ["network._target_=os.system"],
        ["network._target_ = 'os.system'", "must be a network of lop_sweeps.networks", "trusted"],
    ),
    "untrusted namesake": (["network._target_=lop_sweepsevil.Net"], ["'lop_sweepsevil.Net'", "must be a network"]),
    "untrusted intervention": (["+algorithm.x._target_=subprocess.call"], ["algorithm.x._target_", "`trusted`"]),
    "no such class": (
        ["network._target_=lop_sweeps.networks.mlp.MPL"],
        ["network._target_ = 'lop_sweeps.networks.mlp.MPL'", "has no attribute 'MPL'"],
    ),
    "no such module": (
        ["optimizer._target_=lop_sweeps.optimizers.lion.Lion"],
        ["optimizer._target_", "No module named"],
    ),
    "no class at all": (["network._target_=null"], ["network._target_", "package.module.Class"]),
    "not a class": (["optimizer._target_=lop_sweeps.optimizers.optimizer.per_run"], ["optimizer._target_", "no class"]),
    "another kind of class": (["network._target_=lop_sweeps.networks.affine.Affine"], ["network._target_", "Network"]),
    "a class of torch": (["network._target_=torch.nn.Linear"], ["network._target_", "must be a network"]),
    "an optimiser as intervention": (
        ["+algorithm.x._target_=lop_sweeps.optimizers.sgd.SGD"],
        ["algorithm.x._target_ = 'lop_sweeps.optimizers.sgd.SGD'", "must be an intervention"],
    ),
    "a layer as optimiser": (
        ["optimizer={_target_: torch.nn.ReLU}"],
        ["optimizer._target_ = 'torch.nn.ReLU'", "must be an optimiser"],
    ),
}


@pytest.mark.parametrize(("overrides", "words"), ROWS.values(), ids=list(ROWS))
def test_the_message_names_the_key_and_what_is_allowed(tmp_path: Path, overrides: list[str], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        runs.point(tmp_path / "sweeps", *overrides)
    message = str(caught.value)
    for word in words:
        assert word in message
    assert "\n" not in message
    assert list(tmp_path.iterdir()) == []


COMMANDS = [
    "unknown key",
    "unknown top-level key",
    "added top-level key",
    "added option",
    "one unknown algorithm of two",
    "unknown experiment",
    "group without a choice",
    "deleted benchmark",
    "deleted key",
    "unknown variable",
    "step size nan",
    "scale a list",
    "untrusted class",
]


# In a sweep, of each kind one: of a key, a choice and a value. The others run with -m slow.
SWEPT = ("unknown key", "one unknown algorithm of two", "deleted key", "step size nan")


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        *(pytest.param(name, [], id=f"{name}-single") for name in COMMANDS),
        *(
            pytest.param(name, ["-m"], id=f"{name}-sweep", marks=[] if name in SWEPT else pytest.mark.slow)
            for name in COMMANDS
        ),
    ],
)
def test_the_command_ends_with_the_message_and_nothing_is_written(
    lop: Command, tmp_path: Path, name: str, flags: list[str]
) -> None:
    overrides, words = ROWS[name]
    ended = lop(*flags, *overrides)
    assert ended.code not in (0, 130)
    for word in words:
        assert word in ended.err
    assert "Traceback" not in ended.err
    assert ended.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_one_bad_point_in_731_is_reported_before_anything_runs(lop: Command, tmp_path: Path) -> None:
    sizes = ",".join(f"{0.00001 * (n + 1):g}" for n in range(730))
    ended = lop("-m", "scale=tiny", f"optimizer.step_size={sizes},-3")
    assert (ended.code, ended.err) == (2, "lop: optimizer.step_size = -3: must be a finite number > 0\n")
    assert list(tmp_path.iterdir()) == []


def test_a_refused_command_leaves_what_is_there_as_it_was(lop: Command, tmp_path: Path) -> None:
    line = ["-m", "benchmark=slowly_changing_regression", "scale=tiny", "hydra.launcher.workers=1"]
    assert lop(*line, "seed=0,1").code == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert len(before) >= 2 * 5
    for wrong in ("optimizer.step_size=0.003,-1", "seed=0,-1", "network.hidden=[5],[0]", "optimizer.speed=1", "foo=1"):
        assert lop(*line, "seed=0,1", wrong).code in (1, 2)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-m", "seed=interval(0,1)"], ["seed", "interval", "list, range or choice"]),
        (["-m", "seed=range(0)"], ["seed=range(0)", "sweeps over nothing"]),
        (["-m", "algorithm=glob(x*)"], ["algorithm=glob(x*)", "sweeps over nothing"]),
        (["-m", "paths.sweeps=2024"], ["paths.sweeps = 2024", "must be text"]),
        (["-m", "hydra.launcher.workers=0"], ["hydra.launcher.workers = 0", "integer >= 1"]),
        (["-m", "hydra.launcher.pack=many"], ["hydra.launcher.pack = 'many'", "integer >= 1"]),
        (["-m", "hydra/launcher=cloud"], ["hydra/launcher/cloud", "local"]),
        (["-m", "variants=3"], ["variants = 3", "must map names to lists of overrides"]),
        (["-m", "variants={a: 3}"], ["variants.a = 3", "[algorithm=l2]"]),
        (["variants=3"], ["variants = 3", "must map names"]),
        (["seed=0,1"], ["seed=0,1", "--multirun"]),
        (["seed=range(3)"], ["seed=range(3)", "--multirun"]),
        (["optimizer.step_size"], ["optimizer.step_size", "EQUAL"]),
        (["--fast"], ["--fast"]),
        (["-m", "hydra/sweeper=basic"], ["hydra/launcher", "hydra/sweeper=grid"]),
    ],
    ids=lambda value: " ".join(value) if value and value[0][0] in "-vso" else "",
)
def test_misuse_of_the_command_line(lop: Command, tmp_path: Path, arguments: list[str], words: list[str]) -> None:
    ended = lop(*arguments)
    assert ended.code not in (0, 130)
    for word in words:
        assert word in ended.err
    assert "Traceback" not in ended.err
    assert not list(tmp_path.rglob("config.yaml"))


def test_an_experiment_with_variants_needs_m(lop: Command, tmp_path: Path) -> None:
    study = tmp_path / "study"
    (study / "experiment").mkdir(parents=True)
    (study / "experiment" / "mine.yaml").write_text(
        "# @package _global_\nvariants:\n  slow: [optimizer.step_size=0.001]\n  wrong: [optimizer.step_size=-1]\n"
    )
    single = lop("--config-dir", str(study), "experiment=mine")
    assert single.code == 2
    assert "slow, wrong" in single.err
    assert "add -m" in single.err
    sweep = lop("--config-dir", str(study), "experiment=mine", "-m")
    assert (sweep.code, sweep.err) == (2, "lop: optimizer.step_size = -1: must be a finite number > 0\n")
    assert list(tmp_path.iterdir()) == [study]


def test_a_trusted_class_of_the_users_own_works(lop: Command, tmp_path: Path, users_idea: Path) -> None:
    """The same line without `trusted` is refused, and with a wrong option says which there are."""
    line = ["benchmark=slowly_changing_regression", "scale=tiny", "benchmark.num_tasks=1"]
    refused = lop(*line, *[override for override in idea() if not override.startswith("trusted")])
    assert refused.code == 2
    assert "add your module's name to `trusted`" in refused.err
    wrong = lop(*line, *idea(speed=3))
    assert wrong.code == 2
    assert "algorithm.idea.speed = 3: is not an option of Idea" in wrong.err
    assert "Allowed: action, seed, step, while_exists" in wrong.err
    fused = lop(*line, *idea(), "engine=fused")
    assert fused.code == 2
    assert "engine = 'fused': cannot train this, because Idea acts at every step" in fused.err
    assert list(tmp_path.iterdir()) == []
    done = lop(*line, *idea())
    assert (done.code, "1 done" in done.err) == (0, True)


def test_missing_data_are_named_with_the_command_that_mends_it(lop: Command, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="train-images-idx3-ubyte is missing"):
        runs.point(tmp_path / "sweeps", MNIST, f"paths.data={tmp_path / 'nowhere'}")
    ended = lop("-m", MNIST, "paths.data=nowhere", "seed=0,1")
    assert ended.code == 1
    assert ended.err.startswith("lop: nowhere/MNIST/raw/train-images-idx3-ubyte is missing.")
    assert "lop-data fetch mnist --data nowhere" in ended.err
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def mnist(tmp_path: Path) -> Path:
    """Files of the right size and header that hold nothing else, and take no room."""
    mnist_folder(tmp_path / "data").mkdir(parents=True)
    for file in MNIST_FILES:
        with (mnist_folder(tmp_path / "data") / file.name).open("wb") as stream:
            stream.write(file.header)
            stream.truncate(file.size)
    return tmp_path / "data"


def test_truncated_data_are_refused(mnist: Path, tmp_path: Path) -> None:
    labels = mnist_folder(mnist) / MNIST_FILES[1].name
    with labels.open("r+b") as stream:
        stream.truncate(100)
    with pytest.raises(DataError, match="is truncated: has 100 bytes, should have 60008") as caught:
        runs.point(tmp_path / "sweeps", MNIST, f"paths.data={mnist}")
    assert str(labels) in str(caught.value)
    assert not (tmp_path / "sweeps").exists()


def test_data_that_vanish_after_the_check_fail_the_run(mnist: Path, tmp_path: Path) -> None:
    plan = runs.plan(tmp_path / "sweeps", *runs.SMALL, MNIST, f"paths.data={mnist}", "benchmark.num_tasks=1")
    (mnist_folder(mnist) / MNIST_FILES[0].name).unlink()
    (outcome,) = runs.train(plan)
    assert outcome.state == "failed"
    assert "train-images-idx3-ubyte is missing" in outcome.message
    assert plan.points[0].directory.status()["error"]["type"] == "DataError"
