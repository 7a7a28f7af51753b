# poco_ros. A newcomer types `make sim` (watch a policy improve itself) or `make test`.
# Everything is made once, in .venv; the second time costs nothing.

PYTHON ?= python3
TASK ?= cube-single
SEED ?= 0
TEST_WORKERS ?= 3
PYTEST_ARGS ?=

VENV := .venv
STAMPS := $(VENV)/.made
EXTRAS := sim,robot,ros,build,test
# Python 3.13 gets these without their dependencies, see setup.py; older ones have them by then.
SIMULATIONS := dm_control ogbench robosuite

# .venv brings its own ROS 2. One that happens to be sourced in this shell must not mix with it.
ALONE := env -u PYTHONPATH -u PYTHONHOME -u LD_LIBRARY_PATH -u AMENT_PREFIX_PATH \
  -u CMAKE_PREFIX_PATH -u COLCON_PREFIX_PATH -u ROS_DISTRO -u _ROS_WHEELS_BOOTSTRAP_COMPLETE
# The environment is an ament prefix: that is how interfaces find the packages they build on.
BUILD_ENV := $(ALONE) VIRTUAL_ENV="$(CURDIR)/$(VENV)" PATH="$(CURDIR)/$(VENV)/bin:$(PATH)" \
  AMENT_PREFIX_PATH="$(CURDIR)/$(VENV)" CMAKE_PREFIX_PATH="$(CURDIR)/$(VENV)"
RUN := $(ALONE) $(VENV)/bin/python

# OpenCV's own build shows windows and needs libGL and glib for them; the one without needs neither.
usable_opencv = $(1) -c "import cv2" 2>/dev/null || { \
  echo "OpenCV finds no libGL or glib here: taking its build without windows"; \
  $(1) -m pip uninstall -q -y opencv-python && \
  $(1) -m pip install -q --disable-pip-version-check -c constraints.txt opencv-python-headless && \
  $(1) -c "import cv2"; }

# The environment of `make build` beside a ROS 2 that is installed on the machine.
ROS_VENV := .venv-ros
SYSTEM_ROS := $(if $(filter-out $(CURDIR)/%,$(subst :, ,$(AMENT_PREFIX_PATH))),$(ROS_DISTRO))

.DEFAULT_GOAL := help
.PHONY: help setup sim cell test check build bench clean distclean

help:
	@echo "make sim              a cloned policy improves itself over ROS 2 (TASK=$(TASK) SEED=$(SEED))"
	@echo "make cell             the same with the robot's own nodes, in the emulated cell (SEED=$(SEED))"
	@echo "make setup            the environment .venv alone, which the others make as well"
	@echo "make test             the tests"
	@echo "make check            ruff and mypy"
	@echo "make bench            the benchmarks, as lines RESULT name=value"
	@echo "make build            colcon build of poco_ros and poco_msgs, for ros2 launch and ros2 run"
	@echo "make clean            remove what was built; make distclean removes the environment too"

setup: $(STAMPS)/poco_msgs

sim: setup
	@$(ALONE) $(VENV)/bin/poco sim --task $(TASK) --seed $(SEED)

cell: setup
	@$(ALONE) $(VENV)/bin/poco rehearse --seed $(SEED)

# Graph tests are one xdist group, so that they never run beside each other; the worker that has them
# waits much of the time, which is why two cores take three workers.
test: setup
	@$(RUN) -m pytest -n $(TEST_WORKERS) --dist loadgroup $(PYTEST_ARGS)

check: setup
	@echo "ruff: style and mistakes"
	@$(RUN) -m ruff check .
	@echo "mypy: types"
	@$(RUN) -m mypy

bench: setup
	@$(RUN) -m benchmarks

ifeq ($(SYSTEM_ROS),)
build: setup
	@$(BUILD_ENV) $(VENV)/bin/python -m colcon build --base-paths . msg
	@echo "Built into install/. No ROS 2 is sourced here, so: .venv/bin/poco launch sim_scene"
else
build: $(ROS_VENV)/.made/python
	@echo "Building beside the ROS 2 that is installed here ($(SYSTEM_ROS))"
	@$(ROS_VENV)/bin/python -m colcon build --base-paths . msg
	@echo "Built. Next: source install/setup.bash && ros2 launch poco_ros sim_scene.launch.py"
endif

clean:
	rm -rf build install log $(VENV)/build .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find poco_ros sim_bridge test benchmarks launch -name __pycache__ -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV) $(ROS_VENV) poco_ros.egg-info

$(STAMPS)/python: constraints.txt setup.py setup.cfg $(wildcard scripts/*.py)
	@command -v $(PYTHON) >/dev/null || { echo "missing: $(PYTHON)"; \
	  echo "Remedy: sudo apt-get install python3 python3-venv python3-dev"; exit 1; }
	@$(ALONE) $(PYTHON) scripts/check_machine.py
	@echo "[1/2] Python environment in $(VENV), pinned by constraints.txt (some GB, once)"
	@$(ALONE) $(PYTHON) -m venv $(VENV)
	@$(RUN) scripts/install.py $(VENV)/build/pip.log -c constraints.txt -e '.[$(EXTRAS)]'
	@$(RUN) -m pip install -q --disable-pip-version-check --no-deps -c constraints.txt \
	  $(SIMULATIONS)
	@$(call usable_opencv,$(RUN))
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/poco_msgs: $(STAMPS)/python $(wildcard msg/CMakeLists.txt msg/package.xml msg/*/*)
	@echo "[2/2] Interface package poco_msgs into $(VENV) (a minute or so, once)"
	@mkdir -p $(VENV)/build
	@$(BUILD_ENV) cmake -S msg -B $(VENV)/build/poco_msgs -DBUILD_TESTING=OFF \
	  -DCMAKE_INSTALL_PREFIX=$(CURDIR)/$(VENV) -DCMAKE_INSTALL_MESSAGE=NEVER \
	  --log-level=WARNING > $(VENV)/build/configure.log 2>&1 || { \
	  cat $(VENV)/build/configure.log; exit 1; }
	@$(BUILD_ENV) MAKEFLAGS= cmake --build $(VENV)/build/poco_msgs --parallel \
	  > $(VENV)/build/poco_msgs.log 2>&1 || { tail -n 40 $(VENV)/build/poco_msgs.log; \
	  echo "poco_msgs did not build; the whole log is in $(VENV)/build/poco_msgs.log"; exit 1; }
	@$(BUILD_ENV) cmake --install $(VENV)/build/poco_msgs >/dev/null
	@touch $@

$(ROS_VENV)/.made/python: constraints.txt setup.py setup.cfg $(wildcard scripts/*.py)
	@$(PYTHON) scripts/check_machine.py
	@echo "Python environment in $(ROS_VENV), on top of the ROS 2 that is installed here (once)"
	@$(PYTHON) -m venv --system-site-packages $(ROS_VENV)
	@$(ROS_VENV)/bin/python scripts/install.py $(ROS_VENV)/build/pip.log -c constraints.txt \
	  -e '.[sim,robot,build,test]'
	@$(ROS_VENV)/bin/python -m pip install -q --disable-pip-version-check --no-deps \
	  -c constraints.txt $(SIMULATIONS)
	@$(call usable_opencv,$(ROS_VENV)/bin/python)
	@mkdir -p $(@D) && touch $@
