"""Waiting on a few entities without an executor: what keeps a chunk's way through ROS short.

rclpy's executor builds a new wait set over every entity of the node, clocks, parameter services
and timers included, whenever anything happens, and hands the callback through a task and a
future. In lock-step a chunk needs four such hops, so they cost more than its messages. A
:class:`FastLoop` waits on just the entities that it was given and calls their handlers at once.
Its entities are in a callback group that executors leave alone; parameters, timers and rare
services stay with an executor in another thread (see :mod:`poco_ros.ros.node`).

All handlers of a loop run in the thread that calls :meth:`FastLoop.wait`, one at a time, so what
they share needs no lock. The loops of several nodes can take turns in one thread, as a
:class:`LoopGroup`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

from rclpy.callback_groups import CallbackGroup
from rclpy.impl.implementation_singleton import rclpy_implementation as _rclpy
from rclpy.node import Node
from rclpy.qos import QoSProfile

SELDOM = 0.02
"""Seconds between two looks at the services that may wait."""

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

    @property
    def awaited(self) -> bool:
        """Whether an answer is awaited: else there is nothing to look for."""
        return bool(self._handlers)

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
        self._takes: list[tuple[Callable[[], Any], Callable[[Any], None]]] = []
        """What takes the next message of a subscription, and its handler."""
        self.waking: list[Any] = []
        """The subscriptions that end a wait."""
        self.clients: list[FastClient[Any]] = []
        self.services: list[tuple[Any, Callable[[Any, Reply], None]]] = []
        """The services that are looked at in every poll."""
        self.seldom: list[tuple[Any, Callable[[Any, Reply], None]]] = []
        """The services that may wait some milliseconds."""
        self._alone = LoopGroup((self,))

    @property
    def context(self) -> Any:
        """The ROS context of the node; RuntimeError when ROS is not initialised."""
        handle = self._node.context.handle
        if handle is None:
            raise RuntimeError("rclpy is not initialised")
        return handle

    def subscribe(self, message_type: Any, topic: str, handler: Callable[[Any], None],
                  qos: QoSProfile, wakes: bool = True, raw: bool = False) -> None:
        """Call ``handler(message)`` for every message of a topic; ``raw``, with its bytes.

        With ``wakes`` False a message does not end a wait: it is handled when something else does,
        at the latest after the timeout. That saves a wake-up where messages come together.
        """
        subscription = self._node.create_subscription(message_type, topic, handler, qos,
                                                      callback_group=self._group, raw=raw)
        take = partial(subscription.handle.take_message, subscription.msg_type, raw)
        self._takes.append((take, handler))
        if wakes:
            self.waking.append(subscription)

    def client(self, service_type: Any, name: str) -> FastClient[Any]:
        """Return a client of a service."""
        client: Any = self._node.create_client(service_type, name, callback_group=self._group)
        fast: FastClient[Any] = FastClient(client)
        self.clients.append(fast)
        return fast

    def serve(self, service_type: Any, name: str, handler: Callable[[Any, Reply], None],
              seldom: bool = False) -> None:
        """Call ``handler(request, reply)`` for every request of a service.

        The handler calls ``reply(response)`` once, and may go on working afterwards. One that is
        called ``seldom`` is looked at every :data:`SELDOM` seconds while there is work to do.
        """
        service: Any = self._node.create_service(
            service_type, name, lambda request, response: response, callback_group=self._group)
        (self.seldom if seldom else self.services).append((service, handler))

    def poll(self, seldom: bool = True) -> bool:
        """Handle what has arrived: answers, requests, messages; return whether there was anything.

        Looking into an empty queue takes a microsecond, for a service five, since a request is
        made to be filled; a wait, even with a timeout of 0, some 70, because the kernel rounds the
        sleep up.
        """
        handled = False
        for client in self.clients:
            if client.awaited:
                handled |= client.take()
        for service, handler in (*self.services, *self.seldom) if seldom else self.services:
            request, header = service.handle.service_take_request(service.srv_type.Request)
            if request is not None:
                handled = True
                handler(request, partial(service.send_response, header=header))
        while self._take_messages():
            handled = True
        return handled

    def _take_messages(self) -> bool:
        """Handle one message of each topic, so that those of a tick stay together."""
        handled = False
        for take, receive in self._takes:
            taken = take()
            if taken is not None:
                handled = True
                receive(taken[0])
        return handled

    def wait(self, timeout: float) -> None:
        """Handle what has arrived, or wait up to ``timeout`` [s] for something to arrive first."""
        self._alone.wait(timeout)


class LoopGroup:
    """Loops that take turns in one thread."""

    def __init__(self, loops: Sequence[FastLoop]) -> None:
        """Take the loops in the order in which something passes through them."""
        self._loops = tuple(loops)
        self._wait_set: Any = None
        self._sizes = (0, 0, 0)
        self._seldom_at = 0.0

    def wait(self, timeout: float) -> None:
        """Handle what has arrived, or wait up to ``timeout`` [s] for something to arrive first."""
        if self._poll() or timeout <= 0.0:
            return
        subscriptions = [subscription for loop in self._loops for subscription in loop.waking]
        clients = [client for loop in self._loops for client in loop.clients if client.awaited]
        services = [service for loop in self._loops
                    for service, _ in (*loop.services, *loop.seldom)]
        wait_set = self._empty_wait_set(len(subscriptions), len(clients), len(services))
        for subscription in subscriptions:
            wait_set.add_subscription(subscription.handle)
        for client in clients:
            wait_set.add_client(client.handle)
        for service in services:
            wait_set.add_service(service.handle)
        wait_set.wait(int(timeout * 1e9))
        self._seldom_at = 0.0
        self._poll()

    def _poll(self) -> bool:
        now, handled = time.monotonic(), False
        seldom = now >= self._seldom_at
        if seldom:
            self._seldom_at = now + SELDOM
        for loop in self._loops:
            handled |= loop.poll(seldom)
        return handled

    def _empty_wait_set(self, subscriptions: int, clients: int, services: int) -> Any:
        sizes = (subscriptions, clients, services)
        if sizes != self._sizes:
            self._wait_set = _rclpy.WaitSet(subscriptions, 0, 0, clients, services, 0,
                                            self._loops[0].context)
            self._sizes = sizes
        self._wait_set.clear_entities()
        return self._wait_set
