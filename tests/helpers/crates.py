"""What a crate says of where a number comes from, by walking it back as any reader of crates can."""

from __future__ import annotations


def runs_of_cell(crate: dict, experiment: str, method: str, variant: str, task: str) -> list[str]:
    """The @ids of the runs behind one cell of an experiment's table, one for each seed, in the order of the crate.

    They are found by walking the crate back from tables/<experiment>.csv, from each file to the action that made it and
    on to what that action read, as far as the first runs on the way.
    """
    entities = {entity["@id"]: entity for entity in crate["@graph"]}
    makers: dict[str, list[str]] = {}
    for entity in entities.values():
        for product in _references(entity, "result"):
            makers.setdefault(product, []).append(entity["@id"])
    waiting, actions = [f"tables/{experiment}.csv"], set()
    assert waiting[0] in entities, f"the crate has no table of {experiment}"
    runs: dict[str, dict] = {}
    while waiting:
        for maker in makers.get(waiting.pop(), []):
            if maker not in actions:
                actions.add(maker)
                runs[maker] = _parameters(entities[maker], entities)
                waiting += [] if runs[maker] else _references(entities[maker], "object")
    cell = {"method": method, "variant": variant, "task": task}
    names = {
        name
        for name, parameters in runs.items()
        if parameters and cell == {key: parameters.get(key, "") for key in cell}
    }
    return [name for name in entities if name in names]


def _references(entity: dict, key: str) -> list[str]:
    """The @ids that a property of an entity refers to."""
    values = entity.get(key, [])
    return [value["@id"] for value in (values if isinstance(values, list) else [values]) if isinstance(value, dict)]


def _parameters(action: dict, entities: dict[str, dict]) -> dict[str, str | int]:
    """Method, variant (where it has one), task and seed of a run; nothing for another action."""
    read = [entities.get(name, {}) for name in _references(action, "object")]
    return {one["name"]: one["value"] for one in read if one.get("@type") == "PropertyValue" and "exampleOfWork" in one}
