"""An episode and the layout of its observation, which is not written in it."""

from __future__ import annotations

from poco_ros.core.episode import Episode
from poco_ros.core.errors import DataError
from poco_ros.core.observation import ObservationLayout

STATE = "state"
"""The one part of an observation whose layout nobody names."""


def layout_for(episode: Episode, layout: ObservationLayout | None) -> ObservationLayout:
    """Return ``layout``, or one part that holds all when there is none.

    Raises:
        DataError: the observation of ``episode`` has another size.
    """
    size = episode.observations.shape[1]
    if layout is None:
        return ObservationLayout(((STATE, size),))
    if layout.size != size:
        raise DataError(f"episode {episode.id}: observations have {size} values, the layout"
                        f" {layout.parts} has {layout.size}; name the preset that they were"
                        " recorded with")
    return layout


def columns(layout: ObservationLayout) -> dict[str, slice]:
    """Return where in the vector each part is."""
    places, begin = {}, 0
    for name, size in layout.parts:
        places[name] = slice(begin, begin + size)
        begin += size
    return places
