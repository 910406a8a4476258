"""The link cut at what is said about deliveries that wait for a person's decision: held, release, cancel."""

import asyncio

from tests.faults.site import CUTS, Site
from tests.support.fault_proxy import How, Moment
from tests.support.judge import DROP
from tests.support.system import Api

EVENT = "NewPatchRequest"
DECISIONS = {"held": "Fire", "release": "Fire", "cancel": "Abandon"}
PATIENCE = 90.0


class Decisions:
    """One site with a webhook whose unknown outcomes are held. Each delivery's first request gets no answer."""

    def __init__(self, site: Site, api: Api) -> None:
        self._site, self._api = site, api
        self.fired: list[str] = []
        self.abandoned: list[str] = []

    async def run(self, rounds: int) -> None:
        uri = self._site.judge.url(f"{self._site.path.rstrip('/')}{DROP}{{SubjectId}}")
        webhook = {"PresenceId": self._site.presence_id, "Uri": uri, "Event": EVENT, "Global": True}
        await self._api.call("POST", "Webhooks", webhook | {"OnUnknown": "Hold"})
        for number in range(rounds):
            for kind in DECISIONS:
                for moment, how in CUTS:
                    await self._cut(kind, moment, how, f"{number}-{kind}-{moment}")
                    await self._site.renew()

    async def _cut(self, kind: str, moment: Moment, how: How, name: str) -> None:
        trap = self._site.proxy.trap(kind, moment, how)
        event = {"specversion": "1.0", "id": name, "source": "test", "type": EVENT, "subject": name}
        (delivery,) = (await self._api.call("POST", "Events", event))["Deliveries"]
        if kind == "held":
            await self._site.sprung(trap)
            await self._site.stay_away_and_heal()
        await self._resolve(delivery, DECISIONS[kind])
        if kind != "held":
            await self._site.sprung(trap)
            await self._site.stay_away_and_heal()
        (self.abandoned if kind == "cancel" else self.fired).append(delivery)

    async def _resolve(self, delivery: str, action: str) -> None:
        """Decides as soon as somebody is asked."""
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    await self._api.call("POST", f"Deliveries/{delivery}/Resolve", {"Action": action})
                    return
                except AssertionError:
                    await asyncio.sleep(0.05)
