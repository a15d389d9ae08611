// What the keyboard does everywhere.

import { useEffect } from "react";
import { useNavigate } from "react-router";
import { SCREENS } from "../screens";
import { Dialog } from "../ui/Over";
import css from "./Frame.module.css";
import { useKeeping } from "./query";

const PATIENCE_MS = 1200;
export const QUERY_ID = "estate-query";

const isWriting = (target: EventTarget | null): boolean =>
  target instanceof HTMLElement && (target.isContentEditable || ["INPUT", "TEXTAREA", "SELECT"].includes(target.tagName));

export function useKeys(onHelp: () => void): void {
  const navigate = useNavigate();
  const keeping = useKeeping();
  useEffect(() => {
    let going = 0;
    const press = (event: KeyboardEvent): void => {
      if (isWriting(event.composedPath()[0] ?? null) || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
      const isGoing = performance.now() - going < PATIENCE_MS;
      going = event.key === "g" ? performance.now() : 0;
      const screen = isGoing ? SCREENS.find((one) => one.key === event.key) : undefined;
      if (screen) void navigate(keeping(screen.path));
      else if (event.key === "/") document.getElementById(QUERY_ID)?.focus();
      else if (event.key === "?") onHelp();
      else return;
      event.preventDefault();
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  }, [navigate, keeping, onHelp]);
}

export function Keys({ onClose }: { onClose: () => void }) {
  return (
    <Dialog title="Keys" onClose={onClose}>
      <div className={css.keys}>
        <kbd>/</kbd><span>Ask: a label selector</span>
        {SCREENS.map((screen) => <Line key={screen.path} keys={`g ${screen.key}`} text={`Go to ${screen.name}`} />)}
        <kbd>↑ ↓</kbd><span>From row to row in a table</span>
        <kbd>Enter</kbd><span>Open the row</span>
        <kbd>Space</kbd><span>Tick the row</span>
        <kbd>Esc</kbd><span>Close what is open</span>
        <kbd>?</kbd><span>These keys</span>
      </div>
    </Dialog>
  );
}

const Line = ({ keys, text }: { keys: string; text: string }) => <><kbd>{keys}</kbd><span>{text}</span></>;
