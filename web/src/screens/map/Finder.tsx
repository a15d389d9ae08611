// Find a group or a workload, and fly there.

import { type KeyboardEvent, useId, useMemo, useState } from "react";
import { printable } from "../../words";
import css from "./Map.module.css";
import { type Ground, search } from "./picture";
import { trail } from "./tree";

const MOST = 9;

export function Finder({ ground, onFound }: { ground: Ground; onFound: (box: number) => void }) {
  const [text, setText] = useState("");
  const [at, setAt] = useState(0);
  const id = useId();
  const found = useMemo(() => search(ground, text, MOST), [ground, text]);
  const take = (box: number | undefined): void => {
    if (box === undefined) return;
    setText("");
    onFound(box);
  };
  const press = (event: KeyboardEvent): void => {
    if (event.key === "ArrowDown") setAt(Math.min(found.length - 1, at + 1));
    else if (event.key === "ArrowUp") setAt(Math.max(0, at - 1));
    else if (event.key === "Enter") take(found[at]);
    else if (event.key === "Escape") setText("");
    else return;
    event.preventDefault();
  };
  return (
    <div className={css.finder}>
      <input
        type="search" role="combobox" aria-label="Find a group or workload" placeholder="Find a group or workload" value={text} autoComplete="off" spellCheck={false}
        aria-expanded={text !== ""} aria-controls={id} aria-activedescendant={found[at] === undefined ? undefined : `${id}-${at}`} aria-autocomplete="list"
        onChange={(event) => (setText(event.target.value), setAt(0))} onKeyDown={press} onBlur={() => setText("")}
      />
      <ul id={id} role="listbox" aria-label="Found" hidden={text === ""}>
        {found.map((box, index) => (
          <li key={box} id={`${id}-${index}`} role="option" aria-selected={index === at} onPointerDown={(event) => (event.preventDefault(), take(box))}>
            <b>{printable(ground.tree.boxes[box]?.name ?? "")}</b><span>{trail(ground.tree, box).slice(0, -1).map(printable).join(" › ") || ground.tree.boxes[box]?.key}</span>
          </li>
        ))}
        {text !== "" && found.length === 0 && <li role="option" aria-selected={false} aria-disabled="true">Nobody is called that</li>}
      </ul>
    </div>
  );
}
