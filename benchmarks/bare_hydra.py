"""The peer of `python src/train.py --cfg job`: the smallest program of Hydra."""

import hydra
from omegaconf import DictConfig


@hydra.main(version_base="1.3", config_path=None)
def main(values: DictConfig) -> None:
    """Nothing."""


if __name__ == "__main__":
    main()
