"""The steps in which checks are evaluated: one for all checks of an asset.

A step costs Dagster the same whatever it holds, whenever it loads the definitions, and hundreds of views have thousands of
checks. In its step a check is still one for itself: it has its own name, severity and description, and can be chosen alone.
One that raises has no result, which Dagster shows as *execution failed*; the others have theirs, and the step fails when all
have had their turn. What others wait for is in a step of its own, so that no other check holds it up or fails it.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import dagster as dg
from dagster._core.definitions.node_definition import NodeDefinition
from feature_store_deploy.assets.keys import op_name
from feature_store_deploy.assets.resource import STORE
from feature_store_deploy.checks.window import Days, asked_days, is_built_too

from feature_store.store import FeatureStore


class DaysConfig(dg.Config):
    """What to compare with what."""

    days: str | None = None
    """`2013-04-01/2013-04-30`; by default the partitions of the run, or the newest days that are over."""
    reference: str | None = None
    """Pinned days, `2013-01-01/2013-03-31`; by default the 28 days before, or as many as are compared."""


_DAYS = DaysConfig.to_fields_dict()
_CHECKS, _BLOCKING = "checks", "blocking_checks"
"""A step is called `<asset>__checks`, or `<asset>__blocking_checks`."""


class Step:
    """What the checks of a step share while it runs."""

    def __init__(self, context: dg.AssetCheckExecutionContext, key: dg.AssetKey) -> None:
        self._context, self._key = context, key
        self.run, self.instance = context.run, context.instance

    @property
    def chosen(self) -> frozenset[str]:
        """The names of the checks that are to be evaluated."""
        return frozenset(key.name for key in self._context.selected_asset_check_keys)

    @cached_property
    def store(self) -> FeatureStore:
        """The deployment, opened once for a run."""
        store: FeatureStore = getattr(self._context.resources, STORE)
        return store

    @property
    def days(self) -> Days | None:
        """The days that somebody has asked for; InputError if they are none."""
        return asked_days(self._config.days, "days")

    @property
    def reference(self) -> Days | None:
        """The days that somebody has asked to compare with; InputError if they are none."""
        return asked_days(self._config.reference, "reference")

    @property
    def in_a_load(self) -> bool:
        """Whether the asset is loaded or built in the same run, which should not wait long for its checks."""
        return is_built_too(self._context, self._key)

    @property
    def _config(self) -> DaysConfig:
        return DaysConfig(**(self._context.op_execution_context.op_config or {}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Checks:
    """Checks of one asset that are evaluated together, and how."""

    specs: Sequence[dg.AssetCheckSpec]
    evaluate: Callable[[Step, Collection[str]], Iterable[dg.AssetCheckResult]]
    """Those of these names, each with its name; one that has nothing to say of a run is left out."""
    takes_days: bool = False
    """Whether somebody may ask for days."""

    @classmethod
    def of_one(cls, spec: dg.AssetCheckSpec, judge: Callable[[Step], dg.AssetCheckResult | None]) -> "Checks":
        """A check that is evaluated alone; None: it has nothing to say of a run."""

        def evaluate(step: Step, _names: Collection[str]) -> list[dg.AssetCheckResult]:
            found = judge(step)
            return [] if found is None else [found._replace(check_name=spec.name)]

        return cls(specs=[spec], evaluate=evaluate)

    def attempt(self, step: Step, names: Collection[str]) -> tuple[list[dg.AssetCheckResult], dict[str, Exception]]:
        """Results, and the errors of those that have none. If one of several fails, each is evaluated by itself."""
        try:
            return list(self.evaluate(step, names)), {}
        except Exception as error:  # noqa: BLE001 - whatever it is, others must be heard; it is raised at the end
            if len(names) == 1:
                return [], dict.fromkeys(names, error)
        alone = [self.attempt(step, [name]) for name in names]
        return [each for found, _ in alone for each in found], {
            name: error for _, failed in alone for name, error in failed.items()
        }


def build_steps(checks: Iterable[Checks]) -> list[dg.AssetChecksDefinition]:
    """The steps of all checks: of each asset one, and one more where something waits for some of its checks."""
    steps: dict[tuple[dg.AssetKey, bool], list[Checks]] = {}
    for each in checks:
        for step in dict.fromkeys((spec.asset_key, spec.blocking) for spec in each.specs):
            steps.setdefault(step, []).append(each)
    return [_build(key, some, blocking=blocking) for (key, blocking), some in steps.items()]


def takes_days(node: NodeDefinition) -> bool:
    """Whether a step's configuration is `DaysConfig`."""
    return isinstance(node, dg.OpDefinition) and {*getattr(node.config_schema.config_type, "fields", ())} == {*_DAYS}


def _build(key: dg.AssetKey, some: Sequence[Checks], *, blocking: bool) -> dg.AssetChecksDefinition:
    """The step of those that block, or of those that do not."""

    @dg.multi_asset_check(
        name=f"{op_name(key)}__{_BLOCKING if blocking else _CHECKS}",
        specs=[spec for each in some for spec in each.specs if spec.blocking is blocking],
        can_subset=True,
        required_resource_keys={STORE},
        config_schema=_DAYS if any(each.takes_days for each in some) else None,
    )
    def evaluate(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        step, failed = Step(context, key), dict[str, Exception]()
        for each in some:
            names = [spec.name for spec in each.specs if spec.name in step.chosen]
            found, errors = each.attempt(step, names) if names else ([], {})
            yield from (result._replace(asset_key=key) for result in found)
            failed |= errors
        for name, error in failed.items():
            context.log.error("check '%s' could not be evaluated: %r", name, error)
        if failed:
            raise _together(failed)

    return evaluate


def _together(failed: Mapping[str, Exception]) -> Exception:
    """What a step fails with: the error of its check, or those of several."""
    errors = list(failed.values())
    said = "; ".join(f"{name}: {error}" for name, error in failed.items())
    if len(errors) == 1:
        return errors[0]
    return ExceptionGroup(f"{len(errors)} checks could not be evaluated: {said}", errors)
