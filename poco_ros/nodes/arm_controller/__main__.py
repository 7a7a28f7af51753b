"""``python -m poco_ros.nodes.arm_controller``."""

from poco_ros.nodes.arm_controller import main

raise SystemExit(main())
