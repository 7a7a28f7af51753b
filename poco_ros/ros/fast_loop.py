"""Waiting on a few entities without an executor: what keeps a chunk's way through ROS short.

rclpy's executor builds a new wait set over every entity of the node, clocks, parameter services
and timers included, whenever anything happens, and hands the callback through a task and a
future. In lock-step a chunk needs four such hops, so they cost more than its messages. A
:class:`FastLoop` waits on just the entities that it was given and calls their handlers at once.
Its entities are in a callback group that executors leave alone; parameters, timers and rare
services stay with an executor in another thread (see :mod:`poco_ros.ros.node`).

All handlers of a loop run in the thread that calls :meth:`FastLoop.wait`, one at a time, so what
they share needs no lock.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Generic, TypeVar

from rclpy.callback_groups import CallbackGroup
from rclpy.impl.implementation_singleton import rclpy_implementation as _rclpy
from rclpy.node import Node
from rclpy.qos import QoSProfile

Response = TypeVar("Response")
Reply = Callable[[Any], None]


class OutsideExecutors(CallbackGroup):
    """A callback group whose entities no executor takes."""

    def can_execute(self, entity: Any) -> bool:
        """Return False: never by an executor."""
        return False

    def beginning_execution(self, entity: Any) -> bool:
        """Return False: never by an executor."""
        return False

    def ending_execution(self, entity: Any) -> None:
        """Do nothing: it never began."""


class FastClient(Generic[Response]):
    """A service client whose answers come to a handler in the loop's thread."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._handlers: dict[int, Callable[[Response], None]] = {}

    def call(self, request: Any, on_answer: Callable[[Response], None]) -> None:
        """Send ``request``; ``on_answer`` is called once with its response, if one comes.

        A request to a server that is not there, or that dies, is never answered: ask again after
        a time, and :meth:`forget` the old one.
        """
        self._handlers[self._client.handle.send_request(request)] = on_answer

    def forget(self) -> None:
        """Ignore the answers to all requests so far."""
        self._handlers.clear()

    def is_ready(self) -> bool:
        """Return whether a server is known to be there (one that died may still count)."""
        return bool(self._client.service_is_ready())

    @property
    def handle(self) -> Any:
        """What a wait set takes."""
        return self._client.handle

    def take(self) -> bool:
        """Handle one answer if there is one; return whether there was."""
        header, response = self._client.handle.take_response(self._client.srv_type.Response)
        if header is None:
            return False
        handler = self._handlers.pop(header.request_id.sequence_number, None)
        if handler is not None:
            handler(response)
        return True


class FastLoop:
    """Subscriptions, clients and services of one thread."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._group = OutsideExecutors()
        self._subscriptions: list[tuple[Any, Callable[[Any], None]]] = []
        self._waking: list[Any] = []
        self._clients: list[FastClient[Any]] = []
        self._services: list[tuple[Any, Callable[[Any, Reply], None]]] = []
        self._wait_set: Any = None

    def subscribe(self, message_type: Any, topic: str, handler: Callable[[Any], None],
                  qos: QoSProfile, wakes: bool = True) -> None:
        """Call ``handler(message)`` for every message of a topic.

        With ``wakes`` False a message does not end a wait: it is handled when something else does,
        at the latest after the timeout. That saves a wake-up where messages come together.
        """
        subscription = self._node.create_subscription(message_type, topic, handler, qos,
                                                      callback_group=self._group)
        self._subscriptions.append((subscription, handler))
        if wakes:
            self._waking.append(subscription)
        self._wait_set = None

    def client(self, service_type: Any, name: str) -> FastClient[Any]:
        """Return a client of a service."""
        client: Any = self._node.create_client(service_type, name, callback_group=self._group)
        fast: FastClient[Any] = FastClient(client)
        self._clients.append(fast)
        self._wait_set = None
        return fast

    def serve(self, service_type: Any, name: str,
              handler: Callable[[Any, Reply], None]) -> None:
        """Call ``handler(request, reply)`` for every request of a service.

        The handler calls ``reply(response)`` once, and may go on working afterwards.
        """
        service: Any = self._node.create_service(
            service_type, name, lambda request, response: response, callback_group=self._group)
        self._services.append((service, handler))
        self._wait_set = None

    def poll(self) -> bool:
        """Handle what has arrived, at most one of each entity; return whether there was anything.

        Looking into an empty queue takes a microsecond; a wait, even with a timeout of 0, some 70,
        because the kernel rounds the sleep up.
        """
        handled = False
        for client in self._clients:
            handled |= client.take()
        for service, handler in self._services:
            request, header = service.handle.service_take_request(service.srv_type.Request)
            if request is not None:
                handled = True
                handler(request, partial(service.send_response, header=header))
        for subscription, receive in self._subscriptions:
            taken = subscription.handle.take_message(subscription.msg_type, subscription.raw)
            if taken is not None:
                handled = True
                receive(taken[0])
        return handled

    def wait(self, timeout: float) -> None:
        """Handle what has arrived, or wait up to ``timeout`` [s] for something to arrive first."""
        if self.poll():
            return
        wait_set = self._wait_set or self._new_wait_set()
        wait_set.clear_entities()
        for subscription in self._waking:
            wait_set.add_subscription(subscription.handle)
        for client in self._clients:
            wait_set.add_client(client.handle)
        for service, _ in self._services:
            wait_set.add_service(service.handle)
        wait_set.wait(max(0, int(timeout * 1e9)))
        self.poll()

    def _new_wait_set(self) -> Any:
        context = self._node.context.handle
        if context is None:
            raise RuntimeError("rclpy is not initialised")
        self._wait_set = _rclpy.WaitSet(len(self._waking), 0, 0, len(self._clients),
                                        len(self._services), 0, context)
        return self._wait_set
