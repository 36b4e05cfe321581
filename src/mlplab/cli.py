"""What every script shares: short messages for mistakes, exit status 2, and folders that two runs never share."""

from __future__ import annotations

import errno
import logging
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from mlplab.config.base import SettingError

_PLAIN = "MLPLAB_PLAIN_ERRORS"  # marks HYDRA_FULL_ERROR=1 as set here, not by the person


def refuse(message: str) -> NoReturn:
    """Say what is wrong and leave with status 2."""
    print(f"\n{message}" if "\n" in message else message, file=sys.stderr)
    raise SystemExit(2)


def setting(values: Any, name: str, example: str) -> Path:
    """A folder or file that a script cannot do without, from its composed settings.

    Raises:
        SettingError: it was not given.
    """
    from omegaconf import OmegaConf

    if OmegaConf.is_missing(values, name):
        raise SettingError(f"{name} has no value yet; give one, as in {example}")
    return Path(str(values[name]))


def _leave_at_once(status: int) -> NoReturn:
    """End without the interpreter's own end: clearing away torch and Lightning takes it seconds."""
    if engines := sys.modules.get("mlplab.sweeps.engines"):
        engines.close_all()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


@contextmanager
def plain_errors(own: Iterable[str] = ()) -> Iterator[None]:
    """Turn exceptions into one message: status 2 for a person's mistake, 1 for a failed run, 130 for Ctrl-C.

    HYDRA_FULL_ERROR=1 in the environment shows tracebacks instead.

    Args:
        own: settings that the script has beside a run's.
    """
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    before = {name: os.environ.get(name) for name in ("HYDRA_FULL_ERROR", _PLAIN)}
    full = before["HYDRA_FULL_ERROR"] == "1" and before[_PLAIN] is None
    if not full:
        os.environ["HYDRA_FULL_ERROR"] = os.environ[_PLAIN] = "1"  # Hydra raises; what is printed is decided here
    try:
        yield
    except SettingError as error:
        if full:
            raise
        refuse(str(error))
    except (HydraException, OmegaConfBaseException) as error:
        if full:
            raise
        from mlplab.compose import explain_hydra

        refuse(explain_hydra(error, own))
    except KeyboardInterrupt:
        _leave_at_once(130)
    except BrokenPipeError:  # whoever reads along, such as `| head`, has read enough
        os._exit(141)
    except SystemExit as leaving:
        if leaving.code == 143:  # SIGTERM
            _leave_at_once(143)
        raise
    except Exception as error:
        if full:
            raise
        if "Config group override" in str(error):  # Hydra's ValueError for a group given as a number
            wrong = [a for a in sys.argv[1:] if re.fullmatch(r"[\w/]*=(null|true|false|-?[\d.e]+)", a)]
            refuse(f"{', '.join(wrong) or 'a setting'}: a group needs the name of an option, as in optimizer=adam")
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            refuse(f"a name is longer than a file's may be: {str(error.filename)[:80]}...")
        print(f"failed: {type(error).__name__}: {error}", file=sys.stderr)
        print("HYDRA_FULL_ERROR=1 before the command shows the traceback.", file=sys.stderr)
        raise SystemExit(1) from None
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def whole_process(own: Iterable[str] = ()) -> Iterator[None]:
    """`plain_errors` around all that a script does, and then its end: at once, not by the interpreter's own end,
    which takes one to four seconds to clear away torch and Lightning."""
    status = 0
    try:
        with plain_errors(own):
            yield
    except SystemExit as leaving:
        if not isinstance(leaving.code, int | None):
            raise
        status = leaving.code or 0
    if (
        "torch._inductor.async_compile" in sys.modules
    ):  # a compiler's helper processes are ended by the interpreter's own end
        raise SystemExit(status)
    logging.shutdown()
    _leave_at_once(status)


def finish(result: Any, in_sweep: bool = False) -> None:
    """Show what a run came to; leave with status 1 if it did not complete, or let the sweep know that a job did not."""
    from mlplab.reports.summary import show

    show(result)
    wrong = result.unfinished()
    if wrong is not None and in_sweep:
        raise wrong
    if wrong is not None:
        raise SystemExit(1)


@contextmanager
def job() -> Iterator[None]:
    """Around the work of one job: alone, its errors end the process at once; in a sweep the launcher sees them."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    if HydraConfig.get().mode == RunMode.MULTIRUN:
        yield
    else:
        with plain_errors():
            yield


class CheckSettings:
    """Hydra callback: refuses bad settings before a folder is made or torch imported, then claims the run folder."""

    ignores_jobs = True

    def on_run_start(self, config: Any, **_: Any) -> None:
        from hydra.core.hydra_config import HydraConfig

        from mlplab.compose import to_config

        if int(os.environ.get("LOCAL_RANK", "0")) > 0:
            return  # a further process of one distributed run: its first process has checked and claimed
        HydraConfig.instance().set_config(config)
        try:
            to_config(config)
        except SettingError as error:
            refuse(str(error))
        self._claim(config, "run")

    def on_multirun_start(self, config: Any, **_: Any) -> None:
        """The launcher checks the jobs; here only the sweep's folder is claimed."""
        self._claim(config, "sweep")

    def _claim(self, config: Any, mode: str) -> None:
        from omegaconf import OmegaConf, open_dict, read_write

        node, overrides = config.hydra[mode], config.hydra.overrides
        wanted = Path(str(node.dir))
        try:
            again = mode == "sweep" and str(config.hydra.launcher.get("_target_", "")).endswith(".FusedLauncher")
            folder = claim(wanted, exact=_given(config, f"hydra.{mode}.dir"), mode=mode, again=again)
        except SettingError as error:
            refuse(str(error))
        unresolved: Any = OmegaConf.to_container(node, resolve=False)
        if folder != wanted or (mode == "sweep" and "${" in unresolved["dir"]):
            with read_write(node), open_dict(node), read_write(overrides):
                node.dir = str(folder)
                overrides.hydra.append(f'hydra.{mode}.dir="{folder}"')  # jobs of a sweep are composed anew from these

    def __getattr__(self, name: str) -> Any:
        if name.startswith("on_"):  # the other moments of Hydra's callbacks
            return lambda **_: None
        raise AttributeError(name)


def _given(config: Any, key: str) -> bool:
    return any(re.match(rf"\+*{re.escape(key)}=", str(o)) for o in config.hydra.overrides.hydra)


def claim(folder: Path, exact: bool, mode: str = "run", again: bool = False) -> Path:
    """Make a run folder (or, with mode `sweep`, a sweep's folder) that nobody else has.

    Args:
        folder: the wanted folder.
        exact: the person named it: refuse a folder in use instead of taking a neighbouring name.
        again: a named folder with the jobs of a sweep may take the jobs of another command.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(1000):
        candidate = folder if attempt == 0 else folder.with_name(f"{folder.name}_{attempt}")
        try:
            candidate.mkdir()
            return candidate
        except FileExistsError:
            if not exact:
                continue
            if candidate.is_dir():
                names = {path.name for path in candidate.iterdir()}
                if not names or (again and ("jobs.json" in names or names <= {".lock", "multirun.yaml"})):
                    return candidate
            sweep = mode == "sweep" and (candidate / "jobs.json").is_file()
            instead = "; hydra/launcher=fused, the default, goes on in a sweep's folder" if sweep else ""
            raise SettingError(
                f"hydra.{mode}.dir={folder} is not empty, and a run never writes over another; choose another folder"
                f"{instead}"
            ) from None
    raise SettingError(f"{folder} and 999 neighbours exist; choose another hydra.{mode}.dir")
