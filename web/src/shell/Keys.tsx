// What the keyboard does everywhere.

import { useEffect, useState } from "react";
import { useNavigate } from "react-router";
import { SCREENS } from "../screens";
import { Check } from "../ui/Field";
import { Dialog } from "../ui/Over";
import css from "./Frame.module.css";
import { useKeeping } from "./query";

const PATIENCE_MS = 1200;
const KEY = "ringfence.keys";
const OFF = "off";
export const QUERY_ID = "estate-query";
export const MAIN_ID = "main";

/** Whether a single key does something outside of fields: who speaks to the computer turns it off (WCAG 2.1.4). */
const isOff = (): boolean => localStorage.getItem(KEY) === OFF;

function turn(isOn: boolean): void {
  if (isOn) localStorage.removeItem(KEY);
  else localStorage.setItem(KEY, OFF);
}

const isWriting = (target: EventTarget | null): boolean =>
  target instanceof HTMLElement && (target.isContentEditable || ["INPUT", "TEXTAREA", "SELECT"].includes(target.tagName));

export function useKeys(onHelp: () => void): void {
  const navigate = useNavigate();
  const keeping = useKeeping();
  useEffect(() => {
    let going = 0;
    const press = (event: KeyboardEvent): void => {
      if (isWriting(event.composedPath()[0] ?? null) || event.ctrlKey || event.metaKey || event.altKey || isOff() || document.querySelector("dialog[open]")) return;
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
  const [isOn, setOn] = useState(!isOff());
  return (
    <Dialog title="Keys" onClose={onClose} foot={<Check isOn={isOn} onChange={(next) => (setOn(next), turn(next))}>Single keys (/, g, ?) do something outside of fields</Check>}>
      <div className={css.keys}>
        <kbd>/</kbd><span>Ask: a label selector</span>
        {SCREENS.map((screen) => <Line key={screen.path} keys={`g ${screen.key}`} text={`Go to ${screen.name}`} />)}
        <kbd>↑ ↓</kbd><span>From row to row in a table</span>
        <kbd>Enter</kbd><span>Open the row</span>
        <kbd>Space</kbd><span>Tick the row</span>
        <kbd>Esc</kbd><span>Close what is open</span>
        <kbd>↑ ↓ ← →</kbd><span>On the map: from group to group; + and − zoom, 0 shows all, Enter lists a group's edges</span>
        <kbd>Tab</kbd><span>In the editor: take the word that is offered, or leave the text</span>
        <kbd>Ctrl Space</kbd><span>In the editor: offer words; F8 goes to the next finding</span>
        <kbd>?</kbd><span>These keys</span>
      </div>
    </Dialog>
  );
}

const Line = ({ keys, text }: { keys: string; text: string }) => <><kbd>{keys}</kbd><span>{text}</span></>;
