"""``python -m poco_ros.nodes.rollout``."""

from poco_ros.nodes.rollout import main

raise SystemExit(main())
