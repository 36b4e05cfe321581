"""Tell the classes of new rows: `python src/predict.py run=outputs/table/<date_time> input=new.csv output=told.csv`."""

import hydra
from omegaconf import DictConfig

from mlplab.cli import job, whole_process
from mlplab.config.tools import Predict


@hydra.main(version_base="1.3", config_path="../conf", config_name="predict")
def main(values: DictConfig) -> None:
    with job():
        from mlplab.compose import to_own

        chosen = to_own(values, Predict)
        from mlplab.predict import predict

        told = predict(chosen)
        for line in told.left_out:
            print(f"left out {line}")
        print(f"{told.rows:,} rows in {told.seconds:.2f} s, {told.rows / told.seconds:,.0f} rows/s -> {told.file}")


if __name__ == "__main__":
    with whole_process(Predict.model_fields):
        main()
