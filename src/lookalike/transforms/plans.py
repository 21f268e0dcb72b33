"""The view plans of the papers: functions that return view name -> Chain, ready for Views."""

from collections.abc import Sequence

from lookalike.transforms.chain import (
    Chain,
    ColorJitter,
    CopyEdits,
    GaussianBlur,
    Grayscale,
    HorizontalFlip,
    Solarize,
)
from lookalike.transforms.crops import CenterCrop, RandomResizedCrop, Resize, Whole
from lookalike.transforms.edits import TRAINED

# SCE's local views of 2x224 + 192 + 160 + 128 + 96: size and share of the image's area
SCE_LOCALS = ((192, (0.172, 0.86)), (160, (0.143, 0.715)), (128, (0.114, 0.571)), (96, (0.086, 0.429)))


def eval_chain(size: int, resize: int | None = None, interpolation: str = "bilinear") -> Chain:
    """The view without chance: short side to `resize` (default: size), then the central size x size pixels.

    ImageNet's custom is eval_chain(224, 256). An image of exactly that size stays as it is.
    """
    return (Resize(size if resize is None else resize, interpolation), CenterCrop(size))


def simclr(size: int = 224, strength: float = 1.0, blur: bool = True) -> dict[str, Chain]:
    """SimCLR (Chen et al., 2020; google-research/simclr, data_util.py): "view/1" and "view/2" alike.

    On CIFAR-10: size=32, strength=0.5, blur=False. Brightness is multiplied, as in the repository's "simclrv2".
    """
    chain: Chain = (
        RandomResizedCrop(size, interpolation="bicubic"),
        HorizontalFlip(),
        ColorJitter(0.8 * strength, 0.8 * strength, 0.8 * strength, 0.2 * strength),
        Grayscale(),
    )
    if blur:
        chain = (*chain, GaussianBlur(kernel=blur_taps(size)))
    return {"view/1": chain, "view/2": chain}


def byol_pair(size: int = 224, blur: bool = True) -> dict[str, Chain]:
    """BYOL (Grill et al., 2020; google-deepmind/deepmind-research, byol): "view/1" blurred, "view/2" solarized.

    Also the pair of Barlow Twins and VICReg. Without blur it is solo-learn's pair on CIFAR-10.
    """
    crop = RandomResizedCrop(size, interpolation="bicubic")
    pair = {"view/1": _first(crop, blur_taps(size)), "view/2": _second(crop, blur_taps(size))}
    return pair if blur else {name: _sharp(chain) for name, chain in pair.items()}


def moco_v1(size: int = 224) -> dict[str, Chain]:
    """MoCo (He et al., 2020; facebookresearch/moco, main_moco.py): gray before the jitter, which always applies."""
    chain = (
        RandomResizedCrop(size, (0.2, 1.0)),
        Grayscale(),
        ColorJitter(0.4, 0.4, 0.4, 0.4, p=1.0),
        HorizontalFlip(),
    )
    return {"query": chain, "key": chain}


def npid(size: int = 224) -> dict[str, Chain]:
    """NPID (Wu et al., 2018; zhirongw/lemniscate.pytorch, main.py): one "view", that of MoCo's version 1."""
    return {"view": moco_v1(size)["query"]}


def npid_cifar(size: int = 32) -> dict[str, Chain]:
    """NPID on CIFAR-10 (zhirongw/lemniscate.pytorch, cifar.py): one "view", jitter before gray, and no flip."""
    return {"view": (RandomResizedCrop(size, (0.2, 1.0)), ColorJitter(0.4, 0.4, 0.4, 0.4, p=1.0), Grayscale())}


def moco_v2(size: int = 224) -> dict[str, Chain]:
    """MoCo v2 (Chen et al., 2020; facebookresearch/moco, main_moco.py --aug-plus): Pillow's blur."""
    chain = _strong(RandomResizedCrop(size, (0.2, 1.0)))
    return {"query": chain, "key": chain}


def moco_v3(size: int = 224, low: float = 0.2) -> dict[str, Chain]:
    """MoCo v3 with ResNet-50 (Chen et al., 2021; facebookresearch/moco-v3, main_moco.py --crop-min=.2): BYOL's pair.

    Crops are bilinear and of at least the share `low` of the area, 0.08 for vision transformers; the blur is Pillow's:
    "view/1" blurred, "view/2" solarized.
    """
    crop = RandomResizedCrop(size, (low, 1.0))
    return {"view/1": _first(crop, None), "view/2": _second(crop, None)}


def moco_cifar(size: int = 32) -> dict[str, Chain]:
    """MoCo on CIFAR-10 (facebookresearch/moco, colab/moco_cifar10_demo.ipynb): torchvision's crop, no blur."""
    chain = (RandomResizedCrop(size), HorizontalFlip(), ColorJitter(0.4, 0.4, 0.4, 0.1), Grayscale())
    return {"query": chain, "key": chain}


def simsiam(size: int = 224, blur: bool = True) -> dict[str, Chain]:
    """SimSiam (Chen and He, 2020; facebookresearch/simsiam, main_simsiam.py): MoCo v2's, "view/1" and "view/2" alike.

    On CIFAR-10: size=32, blur=False.
    """
    chain = _strong(RandomResizedCrop(size, (0.2, 1.0)))
    chain = chain if blur else _sharp(chain)
    return {"view/1": chain, "view/2": chain}


def vicreg_cifar(size: int = 32) -> dict[str, Chain]:
    """VICReg on CIFAR-10 (vturrisi/solo-learn, cifar/vicreg.yaml): "view/1", "view/2" alike, solarized, not blurred."""
    crop = RandomResizedCrop(size, (0.2, 1.0), interpolation="bicubic")
    chain = (crop, HorizontalFlip(), ColorJitter(0.4, 0.4, 0.2, 0.1), Grayscale(), Solarize(p=0.1))
    return {"view/1": chain, "view/2": chain}


def supcon(size: int = 32) -> dict[str, Chain]:
    """SupCon on CIFAR (Khosla et al., 2020; HobbitLong/SupContrast, main_supcon.py): "view/1" and "view/2", no blur."""
    chain = (RandomResizedCrop(size, (0.2, 1.0)), HorizontalFlip(), ColorJitter(0.4, 0.4, 0.4, 0.1), Grayscale())
    return {"view/1": chain, "view/2": chain}


def stl10(size: int = 64) -> dict[str, Chain]:
    """STL-10 (Wang and Isola, 2020; SsnL/align_uniform, examples/stl10/main.py): "view/1" and "view/2" alike, no blur.

    Crops of 8 to 100 % of the area, bilinear; the jitter, with a hue of 0.4, always applies.
    """
    chain = (RandomResizedCrop(size), HorizontalFlip(), ColorJitter(0.4, 0.4, 0.4, 0.4, p=1.0), Grayscale())
    return {"view/1": chain, "view/2": chain}


def sce_weak_strong(size: int = 32) -> dict[str, Chain]:
    """SCE on small images (Denize et al., 2023; CEA-LIST/SCE, two_crops_soft_and_strong_pil_contrastive_cifar10).

    "weak" goes to the momentum encoder, "strong" to the encoder.
    """
    crop = RandomResizedCrop(size, (0.2, 1.0))
    return {"weak": (crop, HorizontalFlip()), "strong": _strong(crop)}


def sce_pair(size: int = 224) -> dict[str, Chain]:
    """SCE on ImageNet, two crops (CEA-LIST/SCE, two_crops_gpu_mocov3): "global/1" blurred, "global/2" solarized.

    Both are flipped: the published file leaves the flip out of the second, the authors' five-crop file and their
    juliendenize/eztorch have it in both. Kernels have 23 taps at any size.
    """
    crop = RandomResizedCrop(size, (0.2, 1.0))
    return {"global/1": _first(crop, 23), "global/2": _second(crop, 23)}


def sce_multicrop(size: int = 224) -> dict[str, Chain]:
    """SCE on ImageNet, 2x224 + 192 + 160 + 128 + 96 (CEA-LIST/SCE, five_crops_cpu and five_crops_gpu_sce).

    "global/1", "global/2" as in `sce_pair`; "local/1" to "local/4", largest first: blur half of the time, then
    solarization. With another size of the global views the local ones shrink in proportion.
    """
    plan = sce_pair(size)
    for number, (side, scale) in enumerate(SCE_LOCALS, start=1):
        crop = RandomResizedCrop(round(side * size / 224), scale)
        plan[f"local/{number}"] = (crop, *_byol_color(GaussianBlur(kernel=23, p=0.5)), Solarize())
    return plan


def ressl_multicrop(size: int = 224) -> dict[str, Chain]:
    """ReSSL with five crops (Zheng et al., 2021; mingkai-zheng/ReSSL, augmentation.py): 224, 192, 160, 128 and 96.

    "weak" for the momentum encoder as in `sce_weak_strong`, which is ReSSL's pair with one crop; "strong/1" to
    "strong/5", largest first, with its strong changes. Sizes and scales are those that SCE took up.
    """
    plan = {"weak": sce_weak_strong(size)["weak"]}
    for number, (side, scale) in enumerate(((224, (0.2, 1.0)), *SCE_LOCALS), start=1):
        plan[f"strong/{number}"] = _strong(RandomResizedCrop(round(side * size / 224), scale))
    return plan


def pic(size: int = 224, low: float = 0.08) -> dict[str, Chain]:
    """PIC, one crop of at least the share `low` of the area (Cao et al., 2020; bl0/PIC, transform.py, "SimCLR")."""
    return {"large/1": _pic(RandomResizedCrop(size, (low, 1.0)))}


def pic_multicrop(size: int = 160) -> dict[str, Chain]:
    """PIC's released run, 160 + 3x96 (bl0/PIC, transform.py, "MultiCrop"): "large/1" and "small/1" to "small/3".

    With another `size` the small crops shrink in proportion.
    """
    side = round(96 * size / 160)
    crops = {f"small/{number}": _pic(RandomResizedCrop(side, (0.08, 0.14))) for number in (1, 2, 3)}
    return {"large/1": _pic(RandomResizedCrop(size, (0.14, 1.0))), **crops}


def instance_classifier(size: int = 224) -> dict[str, Chain]:
    """One-million-way instance classifier (Liu et al., 2021): "view/1", "view/2", and "plain" without chance.

    The views are MoCo v2's; that is our choice: the paper's text was out of reach.
    """
    strong = _strong(RandomResizedCrop(size, (0.2, 1.0)))
    return {"view/1": strong, "view/2": strong, "plain": eval_chain(size)}


def interclr(size: int = 224) -> dict[str, Chain]:
    """InterCLR (Xie et al., 2020; mmselfsup, imagenet_interclr-moco.py): MoCo v2's, and "plain" without chance."""
    return {**moco_v2(size), "plain": eval_chain(size, round(size * 256 / 224))}


def interclr_cifar(size: int = 32) -> dict[str, Chain]:
    """InterCLR for small images, our choice: MoCo's on CIFAR-10, and "plain" without chance."""
    return {**moco_cifar(size), "plain": eval_chain(size)}


def digits(size: int = 32, low: float = 0.4) -> dict[str, Chain]:
    """Small gray signs that mean something else mirrored or turned: "view/1" and "view/2" alike. Our choice.

    Crops of at least the share `low` of the area, then brightness and contrast, then blur half of the time; no flip,
    no color.
    """
    chain = (RandomResizedCrop(size, (low, 1.0)), ColorJitter(0.4, 0.4, 0.0, 0.0), GaussianBlur())
    return {"view/1": chain, "view/2": chain}


def copy_edits(
    size: int = 224,
    low: float = 0.15,
    edits: int = 4,
    strongest: int = 5,
    names: Sequence[str] = ("edited", "original"),
) -> dict[str, Chain]:
    """A copy and its original, for copy detection: "edited" and "original", or other `names`. Our choice.

    The copy is a crop of the share `low` to 1 of the area, then 1 to `edits` edits of different families, of strengths
    1 to `strongest`; six families are never among them (HELD_OUT; docs/edits.md). Raises ValueError unless there are
    two names.
    """
    if len(names) != 2 or names[0] == names[1]:
        raise ValueError(f"names are those of the copy and of its original, two different ones, got {list(names)}")
    families = tuple(name for name in TRAINED if name != "crop")  # the geometry crops already, with all its pixels
    copy = (RandomResizedCrop(size, (low, 1.0)), CopyEdits(families, edits, strongest))
    return {names[0]: copy, names[1]: (Whole(size),)}  # a copy may be of any part of it


def blur_taps(size: int) -> int:
    """The taps of SimCLR's and BYOL's blur: a tenth of the size, made odd: 23 at 224, 3 at 32."""
    return size // 10 // 2 * 2 + 1


def _strong(crop: RandomResizedCrop) -> Chain:
    """MoCo v2's, which SCE's strong view shares."""
    return (crop, ColorJitter(0.4, 0.4, 0.4, 0.1), Grayscale(), GaussianBlur(), HorizontalFlip())


def _pic(crop: RandomResizedCrop) -> Chain:
    """SimCLR's jitter at full strength with Pillow's blur."""
    return (crop, HorizontalFlip(), ColorJitter(0.8, 0.8, 0.8, 0.2), Grayscale(), GaussianBlur())


def _first(crop: RandomResizedCrop, kernel: int | None) -> Chain:
    return (crop, *_byol_color(GaussianBlur(kernel=kernel, p=1.0)))


def _second(crop: RandomResizedCrop, kernel: int | None) -> Chain:
    return (crop, *_byol_color(GaussianBlur(kernel=kernel, p=0.1)), Solarize())


def _sharp(chain: Chain) -> Chain:
    return tuple(transform for transform in chain if not isinstance(transform, GaussianBlur))


def _byol_color(blur: GaussianBlur) -> Chain:
    return (HorizontalFlip(), ColorJitter(0.4, 0.4, 0.2, 0.1), Grayscale(), blur)
