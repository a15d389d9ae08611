// A session ends when nobody is there, though the page itself asks the server every few seconds.
//
// INVARIANT: only what a person does counts, in any tab of this browser; a page that is left open is not somebody.

import { useEffect, useState } from "react";
import { signOut, useSession } from "./session";

const LOOK_MS = 15_000;
/** Before the end it is said, long enough to press a key (WCAG 2.2.1). */
const WARNED_S = 90;
const DEEDS = ["pointerdown", "keydown", "wheel", "touchstart"] as const;
const tabs = new BroadcastChannel("ringfence.there");
const TELL_MS = 10_000;

/** Whether somebody who was last there at a time is away: they are told so when they come back. */
export const isAway = (last: number, now: number, idleS: number): boolean => now - last >= idleS * 1000;

/** Whether the end is near. */
export function useIdleEnd(): boolean {
  const { phase, session } = useSession();
  const [isNear, setNear] = useState(false);
  const idleS = session?.idle_s ?? 0;
  useEffect(() => {
    if (phase !== "in" || idleS === 0) return;
    let last = Date.now();
    let told = 0;
    const there = (): void => {
      last = Date.now();
      setNear(false);
      if (last - told < TELL_MS) return;
      told = last;
      tabs.postMessage("there");
    };
    tabs.onmessage = () => (setNear(false), void (last = Date.now()));
    const look = (): void => {
      setNear(isAway(last, Date.now(), Math.max(idleS / 2, idleS - WARNED_S)));
      if (!isAway(last, Date.now(), idleS)) return;
      const why = `Nobody was here for ${Math.round(idleS / 60)} minutes, so you were signed out. What you had not saved is kept for you.`;
      void signOut({ isAway: true, why }).catch(() => undefined);
    };
    const timer = setInterval(look, LOOK_MS);
    for (const deed of DEEDS) addEventListener(deed, there, { passive: true, capture: true });
    return () => {
      clearInterval(timer);
      setNear(false);
      for (const deed of DEEDS) removeEventListener(deed, there, { capture: true });
    };
  }, [phase, idleS]);
  return isNear;
}
