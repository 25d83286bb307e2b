"""One table: every algorithm on every kind of network and benchmark. A new component joins with one row.

Each row is held to the contracts on every engine that is promised to train it: torch, and where all its choices are
among those of `FUSED` that one, too. Whether the engines keep that, and train no more, is a contract. Rows in
`METHODS`, one for each method and protocol, are held to all of them in `make test`; the others, which are further
options and combinations, to the long ones in `make slow`.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.images import CIFAR_FILE, image_data
from tests.shared import SHARED, needs_mnist

DIGITS, REGRESSION = "benchmark=permuted_digits", "benchmark=slowly_changing_regression"
MNIST = ["benchmark=permuted_mnist", f"paths.data={SHARED / 'data'}", "benchmark.num_tasks=2"]
CBP, SNP = "algorithm.continual_backprop", "algorithm.shrink_and_perturb"
L2_INIT = "algorithm.l2_init"
DASH, HARE, INJECTION = "algorithm.dash", "algorithm.hare_and_tortoise", "algorithm.plasticity_injection"
OFTEN = [f"{CBP}.replacement_rate=0.01", f"{CBP}.maturity_threshold=20"]
SOON = [f"{CBP}.replacement_rate=0.05", f"{CBP}.maturity_threshold=4"]
SNR, SWR = "algorithm.self_normalized_resets", "algorithm.selective_weight_reinitialization"
CPR, GRAMA, RESET = "algorithm.calibrated_partial_resets", "algorithm.regrama", "algorithm.reset"
SILENT = [f"{SNR}.initial_threshold=30", f"{SNR}.floor=10", f"{SNR}.tau_max=150", f"{SNR}.refresh_every=1"]
IMAGES = f"paths.data={image_data()}"
IMAGENET = [
    "benchmark=continual_imagenet",
    IMAGES,
    "network=conv_net",
    "network.channels=[4,5,6]",
    "network.hidden=[7,8]",
]
CIFAR = [
    "benchmark=incremental_cifar100",
    IMAGES,
    f"benchmark.file={CIFAR_FILE}",
    "network=resnet18",
    "network.width=2",
]
VGG = ["benchmark=continual_imagenet", IMAGES, "network=vgg16", "network.width=1", "network.hidden=[4]"]
SMALL_VIT = [f"network.{option}" for option in ("patch=16", "width=6", "heads=2", "depth=2", "mlp_ratio=2")]
VIT = ["benchmark=incremental_cifar100", IMAGES, f"benchmark.file={CIFAR_FILE}", "network=vit_tiny", *SMALL_VIT]
CONTROL = [
    "network=actor_critic",
    "network.hidden=[12,12]",
    "benchmark.num_steps=192",
    "benchmark.log_every=64",
    "benchmark.max_episode_steps=20",
    "agent.rollout=32",
    "agent.batch_size=16",
    "agent.epochs=2",
]
STREAM, LENGTHS = (
    ["benchmark=stream", "benchmark/data=digits"],
    ["benchmark.num_tasks=3", "benchmark.examples_per_task=90"],
)
EPOCHS = [*STREAM, "benchmark/protocol=epochs", "benchmark.batch_size=50", "benchmark.num_tasks=2"]
ANT, HOPPER, WALKER = (["benchmark=" + name, *CONTROL] for name in ("ant", "hopper", "walker2d"))
SLIPPERY = ["benchmark=slippery_ant", *CONTROL, "benchmark.change_every=30"]
CARTPOLE, ACROBOT, MOUNTAIN_CAR = (
    [f"benchmark=continual_{name}", *CONTROL, "benchmark.change_every=64"]
    for name in ("cartpole", "acrobot", "mountain_car")
)

ROWS: dict[str, list[str]] = {
    "backprop": [DIGITS],
    "momentum": [DIGITS, "optimizer=momentum", "optimizer.step_size=0.001"],
    "adam": [DIGITS, "optimizer=adam"],
    "adamw": [DIGITS, "optimizer=adamw"],
    "l2": [DIGITS, "algorithm=l2"],
    "shrink_and_perturb": [DIGITS, "algorithm=shrink_and_perturb"],
    "lazy_noise": [DIGITS, "algorithm=shrink_and_perturb", f"{SNP}.noise=lazy"],
    "dropout": [DIGITS, "algorithm=dropout"],
    "adam_dropout_batch": [DIGITS, "algorithm=dropout", "optimizer=adam", "benchmark.batch_size=10"],
    "layer_norm": [DIGITS, "algorithm=layer_norm"],
    "online_norm": [DIGITS, "algorithm=online_norm", "network.norm_after=true"],
    "batch_norm": [DIGITS, "algorithm=batch_norm", "benchmark.batch_size=10"],
    "cbp": [DIGITS, "algorithm=continual_backprop", *OFTEN],
    "cbp_adam": [DIGITS, "algorithm=continual_backprop", "optimizer=adam", *OFTEN],
    "cbp_momentum": [DIGITS, "algorithm=continual_backprop", "optimizer=momentum", *OFTEN],
    "cbp_bernoulli_transfer": [
        DIGITS,
        "algorithm=continual_backprop",
        *OFTEN,
        f"{CBP}.fractional=bernoulli",
        f"{CBP}.bias_transfer=true",
        f"{CBP}.utility=contribution",
    ],
    "cbp_layerwise_random": [
        DIGITS,
        "algorithm=continual_backprop",
        f"{CBP}.replacement_rate=[0.02,0]",
        f"{CBP}.utility=random",
    ],
    "cbp_norm_dropout": [
        DIGITS,
        "algorithm=[continual_backprop,dropout,online_norm,shrink_and_perturb]",
        *OFTEN,
        f"{CBP}.utility=feature_by_input",
    ],
    "cbp_dropout_noise": [
        DIGITS,
        "algorithm=[continual_backprop,dropout,shrink_and_perturb]",
        *OFTEN,
        f"{CBP}.utility=feature_by_input",
    ],
    "noise_cbp_adamw": [
        DIGITS,
        "algorithm=[shrink_and_perturb,continual_backprop]",
        "optimizer=adamw",
        *OFTEN,
        f"{CBP}.utility=adaptable_contribution",
    ],
    "l2_and_cbp_batch": [
        DIGITS,
        "algorithm=[l2,continual_backprop]",
        "benchmark.batch_size=10",
        *OFTEN,
        f"{CBP}.utility=weight",
    ],
    "linear": [DIGITS, "network=linear"],
    "head_resetting": [DIGITS, "algorithm=head_resetting"],
    "retrained_network": [
        DIGITS,
        "algorithm=retrained_network",
        "optimizer=adam",
        "algorithm.retrained_network.reset_optimizer=true",
    ],
    "conv_digits_cbp": [
        DIGITS,
        "network=conv_net",
        "network.channels=[5]",
        "network.kernels=[3]",
        "network.hidden=[]",
        "algorithm=continual_backprop",
        *OFTEN,
    ],
    "regression_backprop": [REGRESSION],
    "regression_cbp_tanh": [
        REGRESSION,
        "algorithm=continual_backprop",
        "network.activation=tanh",
        *OFTEN,
        f"{CBP}.utility=zero_contribution",
    ],
    "regression_adam_swish": [REGRESSION, "optimizer=adam", "network.activation=swish", "benchmark.change=flip_one"],
    "regression_noise": [REGRESSION, "algorithm=shrink_and_perturb", "network.activation=sigmoid"],
    "regression_dropout_widths": [
        REGRESSION,
        "algorithm=dropout",
        "network.hidden=[15,9,12]",
        "network.activation=tanh",
    ],
    "regression_lazy_noise_batch": [
        REGRESSION,
        "algorithm=shrink_and_perturb",
        f"{SNP}.noise=lazy",
        f"{SNP}.noise_std=0.001",
        "benchmark.batch_size=10",
    ],
    "regression_linear": [REGRESSION, "network=linear"],
    "imagenet_backprop": IMAGENET,
    "imagenet_adam_decay": [*IMAGENET, "optimizer=adam", "optimizer.decay_at=[0.3,0.6]"],
    "imagenet_cbp": [*IMAGENET, "algorithm=continual_backprop", *SOON, f"{CBP}.rate_of=all"],
    "imagenet_cbp_adam_transfer": [
        *IMAGENET,
        "algorithm=continual_backprop",
        "optimizer=adam",
        *SOON,
        f"{CBP}.bias_transfer=true",
        f"{CBP}.utility=contribution",
    ],
    "imagenet_noise_dropout": [*IMAGENET, "algorithm=[shrink_and_perturb,dropout]"],
    "imagenet_norm_cbp": [*IMAGENET, "algorithm=[batch_norm,continual_backprop]", *SOON],
    "imagenet_mlp_cbp": [
        "benchmark=continual_imagenet",
        IMAGES,
        "network=mlp",
        "network.hidden=[12,12]",
        "algorithm=[l2,continual_backprop]",
        *SOON,
    ],
    "imagenet_retrained": [*IMAGENET, "algorithm=retrained_network"],
    "cifar_backprop": CIFAR,
    "cifar_cbp": [
        *CIFAR,
        "algorithm=continual_backprop",
        *SOON,
        f"{CBP}.utility=contribution",
        f"{CBP}.averaging=sum",
        f"{CBP}.rate_of=all",
    ],
    "cifar_head_resetting_dropout": [*CIFAR, "algorithm=[head_resetting,dropout]"],
    "cifar_retrained_noise": [*CIFAR, "algorithm=[retrained_network,shrink_and_perturb]"],
    "redo": [DIGITS, "algorithm=redo", "algorithm.redo.threshold=0.5"],
    "redo_adam_batch": [
        DIGITS,
        "algorithm=redo",
        "optimizer=adam",
        "benchmark.batch_size=10",
        "algorithm.redo.period=7",
    ],
    "imagenet_redo_norm": [*IMAGENET, "algorithm=[redo,batch_norm]", "algorithm.redo.period=4"],
    "cifar_redo": [*CIFAR, "algorithm=redo", "algorithm.redo.threshold=0.6", "algorithm.redo.period=4"],
    "redo_as_reimplemented": [
        DIGITS,
        "algorithm=redo",
        "optimizer=adam",
        "benchmark.batch_size=10",
        "network=mlp",
        "network.hidden=[12,12]",
        "network.init=default",
        "algorithm.redo.period=7",
        "algorithm.redo.score=eps",
        "algorithm.redo.new_bias=initial",
        "algorithm.redo.outgoing=initial",
        "algorithm.redo.step_counts=layers",
    ],
    "snr_adam_batch": [
        DIGITS,
        "algorithm=self_normalized_resets",
        "optimizer=adam",
        "benchmark.batch_size=10",
        *SILENT,
    ],
    "snr_of_authors_by_steps": [
        DIGITS,
        "algorithm=self_normalized_resets",
        *SILENT,
        f"{SNR}.refresh_in=steps",
        "optimizer.max_gradient_norm=0.5",
        f"{SNR}.refresh_every=17",
        f"{SNR}.empty=authors",
        f"{SNR}.reset_optimizer=all",
    ],
    "imagenet_snr_norm": [*IMAGENET, "algorithm=[self_normalized_resets,batch_norm]", *SILENT],
    "cifar_snr": [*CIFAR, "algorithm=self_normalized_resets", *SILENT],
    "ant_snr": [*ANT, "algorithm=self_normalized_resets", *SILENT, f"{SNR}.initial_threshold=16"],
    "swr": [DIGITS, "algorithm=selective_weight_reinitialization", f"{SWR}.period=9", f"{SWR}.reinit_factor=0.01"],
    "swr_proportional_average": [
        DIGITS,
        "algorithm=[selective_weight_reinitialization,layer_norm]",
        "benchmark.batch_size=10",
        f"{SWR}.period=7",
        f"{SWR}.reinit_factor=0.003",
        f"{SWR}.pruning=proportional",
        f"{SWR}.decay_rate=0.9",
    ],
    "swr_magnitude_mean_adam": [
        DIGITS,
        "algorithm=selective_weight_reinitialization",
        "optimizer=adam",
        f"{SWR}.period=9",
        f"{SWR}.reinit_factor=0.02",
        f"{SWR}.utility=magnitude",
        f"{SWR}.reinitialisation=mean",
    ],
    "imagenet_swr": [
        *IMAGENET,
        "algorithm=selective_weight_reinitialization",
        f"{SWR}.period=4",
        f"{SWR}.reinit_factor=0.01",
        f"{SWR}.pruning=proportional",
    ],
    "cifar_swr": [*CIFAR, "algorithm=selective_weight_reinitialization", f"{SWR}.period=4"],
    "ant_swr": [*ANT, "algorithm=selective_weight_reinitialization", f"{SWR}.period=3", f"{SWR}.reinit_factor=0.01"],
    "regrama": [DIGITS, "algorithm=regrama", "optimizer=adam", f"{GRAMA}.period=9", f"{GRAMA}.threshold=0.1"],
    "regrama_weight_gradient_batch": [
        DIGITS,
        "algorithm=regrama",
        "optimizer=adam",
        "benchmark.batch_size=10",
        f"{GRAMA}.period=7",
        f"{GRAMA}.threshold=0.3",
        f"{GRAMA}.signal=weight_gradient",
        f"{GRAMA}.max_reset_fraction=0.2",
        f"{GRAMA}.reset_optimizer=all",
    ],
    "imagenet_regrama_norm": [
        *IMAGENET,
        "algorithm=[regrama,batch_norm]",
        f"{GRAMA}.period=4",
        f"{GRAMA}.threshold=0.5",
    ],
    "cifar_regrama": [
        *CIFAR,
        "algorithm=regrama",
        f"{GRAMA}.period=4",
        f"{GRAMA}.threshold=0.6",
        f"{GRAMA}.signal=weight_gradient",
    ],
    "ant_regrama": [*ANT, "algorithm=regrama", f"{GRAMA}.period=3", f"{GRAMA}.threshold=0.5"],
    "cpr": [DIGITS, "algorithm=calibrated_partial_resets", "optimizer=adam", f"{CPR}.period=9"],
    "cpr_exp_norm": [
        DIGITS,
        "algorithm=[calibrated_partial_resets,layer_norm]",
        "benchmark.batch_size=10",
        f"{CPR}.period=7",
        f"{CPR}.transform=exp",
    ],
    "imagenet_cpr": [*IMAGENET, "algorithm=calibrated_partial_resets", f"{CPR}.period=4"],
    "cifar_cpr": [*CIFAR, "algorithm=calibrated_partial_resets", f"{CPR}.period=4"],
    "ant_cpr": [*ANT, "algorithm=calibrated_partial_resets", f"{CPR}.period=3", "agent.max_gradient_norm=0.5"],
    "reset": [DIGITS, "algorithm=reset", "optimizer=adam"],
    "reset_head_to_initial": [DIGITS, "algorithm=reset", f"{RESET}.of=head", f"{RESET}.to=initial", "optimizer=adam"],
    "reset_step_counts": [DIGITS, "algorithm=reset", f"{RESET}.of=step_count", "optimizer=adam"],
    "reset_last_layers_every_so_often": [
        DIGITS,
        "algorithm=[reset,batch_norm]",
        "benchmark.batch_size=10",
        f"{RESET}.of=last_k",
        f"{RESET}.k=2",
        f"{RESET}.at={{every: 7}}",
    ],
    "cifar_reset_to_initial": [*CIFAR, "algorithm=reset", f"{RESET}.to=initial"],
    "slippery_reset_head": [*SLIPPERY, "algorithm=reset", f"{RESET}.of=head", f"{RESET}.at={{every: 3}}"],
    "ant_backprop": ANT,
    "ant_cbp_l2": [
        *ANT,
        "algorithm=[l2,continual_backprop]",
        *SOON,
        f"{CBP}.utility=contribution",
        f"{CBP}.fractional=bernoulli",
        f"{CBP}.reset_optimizer=false",
    ],
    "ant_redo_norm": [*ANT, "algorithm=[redo,layer_norm]", "algorithm.redo.period=3", "network.activation=tanh"],
    "hopper_noise_dropout": [*HOPPER, "algorithm=[shrink_and_perturb,dropout]", "agent.time_limit=bootstrap"],
    "walker_cbp_four_environments": [
        *WALKER,
        "agent.environments=4",
        "algorithm=[continual_backprop,batch_norm]",
        f"{CBP}.replacement_rate=[0.05,0.05,0,0.02]",
        f"{CBP}.maturity_threshold=4",
        "agent.max_gradient_norm=0.5",
    ],
    "slippery_head_resetting": [*SLIPPERY, "algorithm=head_resetting", "benchmark.physics=paper"],
    "slippery_retrained": [*SLIPPERY, "algorithm=retrained_network", "agent.environments=2"],
    "cartpole_reset": [*CARTPOLE, "algorithm=reset"],
    "cartpole_c_chain": [
        *CARTPOLE,
        "network=actor_critic_gym",
        "algorithm=c_chain",
        "algorithm.c_chain.form=cross_entropy",
        "algorithm.c_chain.rule=gym",
        "algorithm.c_chain.coefficient=1",
    ],
    "cartpole_trac_clipping": [*CARTPOLE, "optimizer=trac", "algorithm=weight_clipping"],
    "acrobot_l2_init_norm": [*ACROBOT, "algorithm=[l2_init,layer_norm]", "agent.environments=2"],
    "mountain_car_cbp_noise_task": [
        *MOUNTAIN_CAR,
        "algorithm=[continual_backprop,shrink_and_perturb_task]",
        *SOON,
        "benchmark.new_episode_each_rollout=false",
    ],
    "l2_init": [DIGITS, "algorithm=l2_init", "optimizer=adam", "benchmark.batch_size=10"],
    "l2_init_sgd": [DIGITS, "algorithm=l2_init"],
    "weight_clipping_sgd": [DIGITS, "algorithm=weight_clipping", "algorithm.weight_clipping.kappa=0.5"],
    "l2_init_resampled": [
        DIGITS,
        "algorithm=l2_init",
        "benchmark.batch_size=10",
        f"{L2_INIT}.anchor=resampled",
        f"{L2_INIT}.penalty=huber",
    ],
    "imagenet_l2_init_decoupled": [
        *IMAGENET,
        "algorithm=[l2_init,batch_norm]",
        "optimizer=adam",
        f"{L2_INIT}.coupling=decoupled",
    ],
    "l2_init_l1": [
        DIGITS,
        "algorithm=l2_init",
        "benchmark.batch_size=10",
        f"{L2_INIT}.penalty=l1",  # where nothing else moves a weight, rounding decides the sign: no norm here
        f"{L2_INIT}.strength=1e-3",
    ],
    "cifar_l2_init_resampled": [*CIFAR, "algorithm=l2_init", f"{L2_INIT}.anchor=resampled"],
    "wasserstein": [DIGITS, "algorithm=wasserstein", "benchmark.batch_size=10"],
    "cifar_wasserstein": [*CIFAR, "algorithm=wasserstein", "algorithm.wasserstein.biases=true"],
    "spectral": [DIGITS, "algorithm=[spectral,layer_norm]", "optimizer=adam", "benchmark.batch_size=10"],
    "imagenet_spectral": [*IMAGENET, "algorithm=spectral", "algorithm.spectral.bias_exponent=2"],
    "parseval": [DIGITS, "algorithm=parseval", "benchmark.batch_size=10"],
    "cifar_parseval": [
        *CIFAR,
        "algorithm=parseval",
        *(f"algorithm.parseval.{option}=true" for option in ("output", "norm_scales", "effective")),
    ],
    "isometry": [DIGITS, "algorithm=isometry", "optimizer=adam", "benchmark.batch_size=10"],
    "imagenet_isometry": [*IMAGENET, "algorithm=isometry", "algorithm.isometry.output=false", "optimizer=momentum"],
    "weight_clipping": [DIGITS, "algorithm=weight_clipping", "optimizer=adam"],
    "imagenet_weight_clipping": [*IMAGENET, "algorithm=[weight_clipping,continual_backprop]", *SOON],
    "soft_weight_rescaling": [
        DIGITS,
        "algorithm=soft_weight_rescaling",
        "benchmark.batch_size=10",
        "algorithm.soft_weight_rescaling.strength=0.1",
    ],
    "cifar_soft_weight_rescaling": [
        *CIFAR,
        "algorithm=soft_weight_rescaling",
        "algorithm.soft_weight_rescaling.classifier_strength=0.5",
    ],
    "normalize_and_project": [DIGITS, "algorithm=normalize_and_project", "benchmark.batch_size=10"],
    "imagenet_normalize_and_project": [
        *IMAGENET,
        "algorithm=normalize_and_project",
        "network.norm=batch",
        "algorithm.normalize_and_project.period=3",
        "algorithm.normalize_and_project.scale_offset=regularise",
    ],
    "cifar_normalize_and_project": [*CIFAR, "algorithm=normalize_and_project", "~network.norm"],
    "ant_regularisers": [*ANT, "algorithm=[l2_init,wasserstein,spectral,parseval,weight_clipping,isometry]"],
    "ant_projections": [*ANT, "algorithm=[soft_weight_rescaling,normalize_and_project]"],
    "upgd": [DIGITS, "optimizer=upgd"],
    "upgd_rows_noise": [DIGITS, "optimizer=upgd", "optimizer.scope=local", "optimizer.protecting=false"],
    "upgd_paper_cbp_batch": [
        DIGITS,
        "optimizer=upgd",
        "optimizer.profile=paper",
        "algorithm=continual_backprop",
        "benchmark.batch_size=10",
        *OFTEN,
    ],
    "adaupgd": [DIGITS, "optimizer=adaupgd"],
    "imagenet_upgd_units_cbp": [
        *IMAGENET,
        "optimizer=upgd",
        "optimizer.scope=feature_wise",
        "algorithm=continual_backprop",
        *SOON,
    ],
    "cifar_upgd_units": [*CIFAR, "optimizer=upgd", "optimizer.scope=feature_wise"],
    "ant_adaupgd_redo": [*ANT, "optimizer=adaupgd", "algorithm=redo", "algorithm.redo.period=3"],
    "muon": [DIGITS, "optimizer=muon"],
    "muon_redo": [DIGITS, "optimizer=muon", "algorithm=redo", "algorithm.redo.threshold=0.5"],
    # With an eps of 1e-10 steps are made of what rounding leaves of gradients that are 0, before a normalisation.
    "cifar_muon": [*CIFAR, "optimizer=muon", "optimizer.adam_eps=1e-8"],
    "ant_muon": [*ANT, "optimizer=muon"],
    "trac": [DIGITS, "optimizer=trac", "optimizer.s_prev=0.01", "benchmark.batch_size=10"],
    "trac_authors_momentum_cbp": [
        DIGITS,
        "optimizer=trac",
        "optimizer/base=momentum",
        "optimizer.erfi=authors",
        "optimizer.s_prev=0.01",
        "benchmark.batch_size=10",
        "algorithm=continual_backprop",
        *OFTEN,
    ],
    "imagenet_trac_muon": [*IMAGENET, "optimizer=trac", "optimizer/base=muon", "optimizer.s_prev=0.01"],
    "cifar_trac_retrained": [
        *CIFAR,
        "optimizer=trac",
        "algorithm=retrained_network",
        "algorithm.retrained_network.reset_optimizer=true",
    ],
    "ant_trac": [*ANT, "optimizer=trac"],
    "imagenet_c_chain": [
        *IMAGENET,
        "algorithm=c_chain",
        "algorithm.c_chain.form=cross_entropy",
        "algorithm.c_chain.rule=gym",
        "algorithm.c_chain.coefficient=1",
    ],
    "cifar_c_chain_redo": [
        *CIFAR,
        "algorithm=[c_chain,redo]",
        "algorithm.redo.period=4",
        "algorithm.c_chain.rule=fixed",
        "algorithm.c_chain.coefficient=0.1",
    ],
    "ant_c_chain": [*ANT, "algorithm=c_chain"],
    "ant_c_chain_divergence": [
        *ANT,
        "algorithm=c_chain",
        "algorithm.c_chain.form=cross_entropy",
        "algorithm.c_chain.rule=fixed",
        "algorithm.c_chain.coefficient=1",
        "agent.max_gradient_norm=0.5",
    ],
    "crelu_l2_init": [DIGITS, "network.activation=crelu", "algorithm=[l2_init,layer_norm]"],
    "fourier_adam": [DIGITS, "network.activation=fourier", "optimizer=adam", "benchmark.batch_size=10"],
    "prelu_norm_cbp": [DIGITS, "network.activation=prelu", "algorithm=[layer_norm,continual_backprop]", *OFTEN],
    "crelu": [DIGITS, "network.activation=crelu", "algorithm=continual_backprop", "optimizer=adam", *OFTEN],
    "prelu": [
        DIGITS,
        "network.activation=prelu",
        "algorithm=redo",
        "benchmark.batch_size=10",
        "algorithm.redo.period=7",
    ],
    "aid": [DIGITS, "network.activation=aid", "algorithm=dropout"],
    "leaky_slope": [DIGITS, "network.activation=leaky_relu", "network.leaky_slope=0.6"],
    "gelu": [DIGITS, "network.activation=gelu"],
    "fourier": [DIGITS, "network.activation=fourier", "algorithm=[l2,layer_norm]", "network.norm_after=true"],
    "prelu_layer": [DIGITS, "network.activation=prelu", "network.prelu_per=layer"],
    "rrelu": [DIGITS, "network.activation=rrelu"],
    "smooth_leaky": [DIGITS, "network.activation=smooth_leaky"],
    "randomized_smooth_leaky": [DIGITS, "network.activation=randomized_smooth_leaky", "algorithm=shrink_and_perturb"],
    "adalin": [DIGITS, "network.activation=adalin", "network.adalin_of=tanh", "algorithm=redo"],
    "rational": [DIGITS, "network.activation=rational", "optimizer=adam"],
    "imagenet_crelu": [*IMAGENET, "network.activation=crelu", "algorithm=[batch_norm,continual_backprop]", *SOON],
    "imagenet_prelu_channel": [*IMAGENET, "network.activation=prelu", "network.prelu_per=channel"],
    "imagenet_aid": [*IMAGENET, "network.activation=aid", "algorithm=dropout"],
    "cifar_crelu": [*CIFAR, "network.activation=crelu", "algorithm=redo", "algorithm.redo.period=4"],
    "cifar_rrelu": [*CIFAR, "network.activation=rrelu", "algorithm=dropout"],
    "ant_prelu_cbp": [*ANT, "network.activation=prelu", "algorithm=continual_backprop", *SOON],
    "ant_aid": [*ANT, "network.activation=aid"],
    "minus_one_one": [DIGITS, "benchmark.inputs=minus_one_one"],
    "imagenet_zero_one": [*IMAGENET, "benchmark.inputs=zero_one"],
    "cifar_minus_one_one": [*CIFAR, "benchmark.inputs=minus_one_one"],
    "fire": [DIGITS, "algorithm=fire"],
    "fire_norm_batch": [DIGITS, "algorithm=[fire,layer_norm]", "optimizer=adam", "benchmark.batch_size=10"],
    "imagenet_fire_norm": [*IMAGENET, "algorithm=[fire,batch_norm]"],
    "cifar_fire": [*CIFAR, "algorithm=fire", "algorithm.fire.iterations=5"],
    "slippery_fire": [*SLIPPERY, "algorithm=fire"],
    "dash": [DIGITS, "algorithm=dash", f"{DASH}.samples=150", f"{DASH}.batch_size=40"],
    "regression_dash_batch": [REGRESSION, "algorithm=dash", "optimizer=adam", "benchmark.batch_size=10"],
    "imagenet_dash_norm": [*IMAGENET, "algorithm=[dash,batch_norm]"],
    "cifar_dash": [*CIFAR, "algorithm=dash", f"{DASH}.batch_size=5"],
    "shrink_and_perturb_task": [DIGITS, "algorithm=shrink_and_perturb_task"],
    "initial_task": [DIGITS, "algorithm=[shrink_and_perturb_task,dropout]", f"{SNP}.law=initial", "optimizer=adam"],
    "imagenet_fresh_task": [*IMAGENET, "algorithm=[shrink_and_perturb_task,batch_norm]", f"{SNP}.law=fresh"],
    "slippery_noise_task": [*SLIPPERY, "algorithm=[shrink_and_perturb_task,layer_norm]", f"{SNP}.normalisation=true"],
    "fresh_step": [DIGITS, "algorithm=shrink_and_perturb", f"{SNP}.when=step", f"{SNP}.law=fresh"],
    "initial_step_batch": [
        DIGITS,
        "algorithm=shrink_and_perturb",
        f"{SNP}.when=step",
        f"{SNP}.law=initial",
        f"{SNP}.shrink=0.01",
        "optimizer=adam",
        "benchmark.batch_size=10",
    ],
    "noise_step_shrink": [
        DIGITS,
        "algorithm=[shrink_and_perturb,layer_norm]",
        f"{SNP}.when=step",
        f"{SNP}.shrink=0.001",
    ],
    "cifar_fresh_step": [*CIFAR, "algorithm=shrink_and_perturb", f"{SNP}.when=step", f"{SNP}.law=fresh"],
    "ant_fresh_step": [*ANT, "algorithm=shrink_and_perturb", f"{SNP}.when=step", f"{SNP}.law=fresh"],
    "hare_and_tortoise": [DIGITS, "algorithm=hare_and_tortoise", f"{HARE}.period=1", f"{HARE}.mu=0.9"],
    "hare_updates_adam": [
        DIGITS,
        "algorithm=[hare_and_tortoise,dropout]",
        f"{HARE}.period=30",
        f"{HARE}.period_in=updates",
        "optimizer=adam",
    ],
    "imagenet_hare_norm": [*IMAGENET, "algorithm=[hare_and_tortoise,batch_norm]", f"{HARE}.period=2"],
    "cifar_hare": [*CIFAR, "algorithm=hare_and_tortoise", f"{HARE}.period=1", f"{HARE}.mu=0.5"],
    "slippery_hare": [*SLIPPERY, "algorithm=hare_and_tortoise", f"{HARE}.period=3", f"{HARE}.mu=0.9"],
    "plasticity_injection": [DIGITS, "algorithm=plasticity_injection"],
    "injection_step_adam_cbp": [
        DIGITS,
        "algorithm=[continual_backprop,plasticity_injection,layer_norm,dropout]",
        "network.injection=3",
        f"{INJECTION}.at={{step:250}}",
        "optimizer=adam",
        *OFTEN,
    ],
    "slippery_injection": [*SLIPPERY, "algorithm=[plasticity_injection,layer_norm]"],
    "ant_injection_step": [*ANT, "algorithm=plasticity_injection", f"{INJECTION}.at={{step:7}}"],
    "imagenet_mlp_injection": [
        "benchmark=continual_imagenet",
        IMAGES,
        "network=mlp",
        "network.hidden=[12,12]",
        "algorithm=[plasticity_injection,batch_norm]",
    ],
    "strong_baseline": [DIGITS, "algorithm=strong_baseline"],
    "strong_baseline_redo": [DIGITS, "algorithm=[strong_baseline,redo]", "benchmark.batch_size=10"],
    "redo_in_some_tasks": [
        DIGITS,
        "algorithm=redo",
        "algorithm.redo.threshold=0.5",
        "algorithm.redo.period=30",
        "algorithm.redo.from_task=1",
        "algorithm.redo.until_task=2",
    ],
    "noise_and_cbp_in_some_tasks": [
        DIGITS,
        "algorithm=[shrink_and_perturb,continual_backprop,redo]",
        *OFTEN,
        f"{SNP}.noise_std=0.001",
        f"{SNP}.until_task=2",
        f"{CBP}.from_task=1",
        "algorithm.redo.period=50",
        "algorithm.redo.until_task=1",
    ],
    "imagenet_hare_from_a_task": [
        *IMAGENET,
        "algorithm=[hare_and_tortoise,fire]",
        f"{HARE}.period=1",
        f"{HARE}.from_task=1",
        "algorithm.fire.until_task=2",
    ],
    "slippery_redo_from_a_task": [
        *SLIPPERY,
        "algorithm=[redo,head_resetting]",
        "algorithm.redo.period=3",
        "algorithm.redo.from_task=1",
        "algorithm.head_resetting.until_task=2",
    ],
    "stream_labels_drift": [*STREAM, "benchmark/change=labels_permuted", "benchmark.drift=0.5", *LENGTHS],
    "stream_labels_adam": [*STREAM, "benchmark/change=labels_permuted", "optimizer=adam", *LENGTHS],
    "stream_interpolated": [*STREAM, "benchmark.drift=0.5", "benchmark.interpolate=true", *LENGTHS],
    "stream_memorised": [*STREAM, "benchmark/change=labels_random", "benchmark.change.count=60", *LENGTHS],
    "stream_chunks_cbp": [*STREAM, "benchmark/change=chunks", "algorithm=continual_backprop", *OFTEN, *LENGTHS],
    "stream_pairs": [*STREAM, "benchmark/change=class_pairs", "benchmark.change.per_class=100", *LENGTHS],
    "stream_turns": [
        *STREAM,
        "benchmark/change=hard_and_easy",
        "benchmark.change.hard=3",
        "benchmark.change.per_class=100",
        *LENGTHS,
    ],
    "stream_noise": [*STREAM, "benchmark/change=label_noise", *LENGTHS],
    "epochs_chunks": [*EPOCHS, "benchmark/change=chunks", "algorithm=shrink_and_perturb_task", "optimizer=adam"],
    "epochs_inputs": [*EPOCHS, "benchmark.last_batch=keep", "algorithm=dropout"],
    "epochs_memorised": [*EPOCHS, "benchmark/change=labels_random", "benchmark.change.count=300"],
    "epochs_added": [*EPOCHS, "benchmark/change=classes_added", "benchmark.change.per_class=100", "algorithm=redo"],
    "epochs_warm_start": [*EPOCHS, "benchmark/change=warm_start", "benchmark.change.count=600", "algorithm=dash"],
    "epochs_scheduled": [
        *EPOCHS,
        "benchmark/change=chunks",
        "optimizer=momentum",
        "optimizer.max_gradient_norm=0.5",
        "optimizer.warm_up=0.3",
        "optimizer.cosine=true",
    ],
    "epochs_noise": [*EPOCHS, "benchmark/change=label_noise", "benchmark.new_heads=true"],
    "imagenet_vgg": VGG,
    "imagenet_vgg_cbp": [*VGG, "algorithm=continual_backprop", *SOON, f"{CBP}.rate_of=all"],
    "imagenet_vgg_redo": [*VGG, "network.norm=none", "algorithm=redo", "algorithm.redo.period=4"],
    "imagenet_upgd_cnn_redo": [
        *IMAGENET[:2],
        "network=cnn_upgd",
        "network.channels=[3,4]",
        "network.hidden=[6,5]",
        "optimizer=adaupgd",
        "algorithm=redo",
        "algorithm.redo.period=4",
    ],
    "cifar_vit_adam": [*VIT, "optimizer=adam"],
    "cifar_vit_cbp": [*VIT, "algorithm=continual_backprop", *SOON, f"{CBP}.bias_transfer=true"],
    "cifar_vit_redo": [*VIT, "optimizer=adam", "algorithm=[redo,dropout]", "algorithm.redo.period=4"],
    "mnist_backprop": MNIST,
    "mnist_cbp": [*MNIST, "algorithm=continual_backprop", *OFTEN, f"{CBP}.utility=adaptation"],
}


METHODS = frozenset(
    {"backprop", "momentum", "adam_dropout_batch", "adamw", "shrink_and_perturb", "lazy_noise", "layer_norm"}
    | {"online_norm", "batch_norm", "cbp_adam", "l2_and_cbp_batch", "linear", "head_resetting", "redo_adam_batch"}
    | {
        "regression_cbp_tanh",
        "retrained_network",
        "snr_adam_batch",
        "swr",
        "regrama",
        "cpr",
        "reset",
        "imagenet_cbp",
        "cifar_redo",
        "ant_cbp_l2",
        "crelu",
        "prelu",
        "aid",
        "slippery_head_resetting",
        "cartpole_reset",
    }
    | {"fire", "dash", "fresh_step", "imagenet_hare_norm", "plasticity_injection", "noise_and_cbp_in_some_tasks"}
    | {"l2_init", "wasserstein", "spectral", "parseval", "isometry"}
    | {"weight_clipping", "soft_weight_rescaling", "normalize_and_project"}
    | {"stream_labels_drift", "epochs_chunks"}
    | {"upgd", "muon", "trac", "imagenet_c_chain"}
    | {"imagenet_vgg", "cifar_vit_adam"}
)
# What the fused engine promises to train, by config group; a row that chooses nothing in a group has its default.
FUSED = {
    "benchmark/protocol": {"online", "epochs"},
    "benchmark": {"stream", "permuted_digits", "slowly_changing_regression", "permuted_mnist", "continual_imagenet"},
    "network": {"mlp", "linear"},
    "network.activation": {
        *("relu", "leaky_relu", "tanh", "sigmoid", "elu", "selu", "swish", "identity", "gelu", "smooth_leaky"),
        *("crelu", "fourier", "prelu"),
    },
    "optimizer": {"sgd", "momentum", "adam", "adamw", "upgd", "adaupgd"},
    "algorithm": {
        *("l2", "dropout", "shrink_and_perturb", "continual_backprop", "redo"),
        *("head_resetting", "retrained_network", "reset", "regrama", "selective_weight_reinitialization"),
        *("fire", "dash", "shrink_and_perturb_task", "l2_init", "weight_clipping", "self_normalized_resets"),
        *("layer_norm", "strong_baseline", "calibrated_partial_resets"),
    },
}
FUSED_ONLY = f"{SNP}.noise=lazy"
TORCH_ONLY = {
    f"{SNP}.when=step",  # which is spelled out for other laws than noise
    f"{SNR}.refresh_in=steps",
    f"{SWR}.decay_rate=0.9",
    "optimizer.max_gradient_norm=0.5",
    "network.norm_after=true",
    "network.prelu_per=layer",
    "optimizer.scope=local",
    "optimizer.scope=feature_wise",
    *(f"{L2_INIT}.{option}" for option in ("anchor=resampled", "penalty=l1", "penalty=huber")),
}


TWO_FEATURES, RESETS_OF_UNITS = {"crelu", "fourier"}, {"continual_backprop", "self_normalized_resets"}


def engines(name: str) -> list[str]:
    """The engines that are promised to train a row."""
    torch = [] if FUSED_ONLY in ROWS[name] else ["torch"]
    promised = all(chosen(name, group) <= choices for group, choices in FUSED.items())
    promised &= not TORCH_ONLY & set(ROWS[name])
    if chosen(name, "network.activation") & TWO_FEATURES:
        promised &= not chosen(name, "algorithm") & RESETS_OF_UNITS
    return [*torch, *(["fused"] if promised else [])]


def chosen(name: str, group: str) -> set[str]:
    """What a row chooses in a config group."""
    lines = [line.removeprefix(f"{group}=") for line in ROWS[name] if line.startswith(f"{group}=")]
    return {choice for line in lines for choice in line.strip("[]").split(",")}


def each_row(*, long: bool = False) -> list[object]:
    """The rows, to parametrise a test that concerns no engine; long: as in `rows`."""
    return [
        pytest.param(
            name,
            marks=[
                *([needs_mnist] if name.startswith("mnist") else []),
                *([pytest.mark.slow] if long and name not in METHODS else []),
            ],
        )
        for name in ROWS
    ]


def one_of_each(*groups: str) -> list[str]:
    """Rows: the methods, and of all others the first with what it chooses in these groups, and its benchmark."""
    seen: set[frozenset[tuple[str, str]]] = set()
    found = []
    for name in sorted(ROWS, key=lambda name: name not in METHODS):
        kind = frozenset((group, one) for group in ("benchmark", *groups) for one in chosen(name, group))
        if name in METHODS or kind not in seen:
            found.append(name)
        seen.add(kind)
    return found


def rows(
    *names: str, engine: str | None = None, long: bool = False, quick: frozenset[str] = METHODS
) -> pytest.MarkDecorator:
    """Parametrise a test with rows of the table (all, if none are named), on each engine or one of them.

    long: the test takes seconds for each row, so that those beside `quick` are marked slow.
    """

    def every() -> Iterator[object]:
        for name in names or ROWS:
            for one in engines(name):
                if one == (engine or one):
                    marks = [needs_mnist] if name.startswith("mnist") else []
                    marks += [pytest.mark.slow] if long and name not in quick else []
                    yield pytest.param([*ROWS[name], f"engine={one}"], id=f"{name}-{one}", marks=marks)

    return pytest.mark.parametrize("overrides", list(every()))


def small(overrides: list[str]) -> list[str]:
    """A row's overrides on a small network with a checkpoint at every boundary; online, on three short tasks."""
    chosen = any(line.startswith("network=") for line in overrides)
    network = [] if chosen else ["network=mlp", "network.hidden=[12,12]"]
    online = {DIGITS, REGRESSION} & set(overrides)
    tasks = ["benchmark.num_tasks=3", "benchmark.examples_per_task=90"] if online else []
    return ["scale=tiny", *network, *tasks, *overrides, "checkpoint.first=0", "checkpoint.every=0"]
