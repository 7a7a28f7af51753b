"""Which programs of this computer listen on a CAN interface, as far as the kernel tells.

piper_sdk opens its sockets without local loopback: what another program that uses it sends reaches
the arm, but never a socket on the same computer. That it has the interface open can be seen all
the same: the kernel lists every socket that receives.
"""

from __future__ import annotations

from pathlib import Path

PROC = Path("/proc/net/can")
_LISTS = ("rcvlist_all", "rcvlist_fil", "rcvlist_inv", "rcvlist_sff", "rcvlist_eff")
_COLUMNS = 7  # device, can_id, can_mask, function, userdata, matches, ident
_EVERY_DEVICE = "any"


def raw_receivers(channel: str, folder: Path = PROC) -> int:
    """Return how many filters of raw sockets receive from ``channel``; 0 where there is no CAN.

    A socket has one filter, taking everything, unless its program asks for others.
    """
    count = 0
    for name in _LISTS:
        try:
            lines = (folder / name).read_text().splitlines()
        except OSError:
            continue  # the module can is not loaded: nobody receives
        for columns in map(str.split, lines):
            count += (len(columns) == _COLUMNS and columns[0] in (channel, _EVERY_DEVICE)
                      and columns[-1] == "raw")
    return count
