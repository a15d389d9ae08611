// Where the focus goes when what had it goes away: to what is still there around it, and never to nowhere.

import { type RefObject, useEffect } from "react";

const around = (element: Element | null): Element[] => (element ? [element, ...around(element.parentElement)] : []);

export function useFocusKept(main: RefObject<HTMLElement | null>): void {
  useEffect(() => {
    let held: readonly Element[] = [];
    const came = ({ target }: FocusEvent): void => void (held = target instanceof Element ? around(target) : []);
    const kept = new MutationObserver(() => {
      if (!held[0] || held[0].isConnected || (document.activeElement ?? document.body) !== document.body) return;
      const heir = held.find((one) => one.isConnected && one.hasAttribute("tabindex"));
      (heir instanceof HTMLElement ? heir : main.current)?.focus({ preventScroll: true });
    });
    addEventListener("focusin", came);
    kept.observe(document.body, { childList: true, subtree: true });
    return () => (removeEventListener("focusin", came), kept.disconnect());
  }, [main]);
}
