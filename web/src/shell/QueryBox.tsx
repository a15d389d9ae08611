// One label selector for every screen, completed while it is written (ARIA: a combobox with a list of options).

import { useQuery } from "@tanstack/react-query";
import { type FormEvent, type KeyboardEvent, useEffect, useId, useRef, useState } from "react";
import { api, told } from "../api/client";
import { useSession } from "../session/session";
import { Button } from "../ui/Button";
import { Icon } from "../ui/Icon";
import { printable } from "../words";
import { type Offer, offersAt, readRecent, remembered } from "./completing";
import css from "./Frame.module.css";
import { MAIN_ID, QUERY_ID } from "./Keys";
import { useEstateQuery } from "./query";

const keyOf = (name: string): string => `ringfence.asked.${name}`;

/** Questions of whoever is signed in, kept in this browser until they sign out. */
function useRecent(): [readonly string[], (asked: string) => void] {
  const key = keyOf(useSession().me?.name ?? "");
  const [kept, setKept] = useState(() => readRecent(localStorage.getItem(key)));
  const keep = (asked: string): void => {
    if (asked === "") return;
    const next = remembered(kept, asked);
    setKept(next);
    try {
      localStorage.setItem(key, JSON.stringify(next));
    } catch {
      return; // a browser that keeps nothing
    }
  };
  return [kept, keep];
}

const again = (line: string): Offer => ({ text: line, about: "asked before", line, caret: line.length, isOpen: false });

export function QueryBox() {
  const { where, ask } = useEstateQuery();
  const [text, setText] = useState(where);
  const [caret, setCaret] = useState(0);
  const [isOpen, setOpen] = useState(false);
  const [at, setAt] = useState(-1);
  const [recent, keep] = useRecent();
  const input = useRef<HTMLInputElement>(null);
  const list = useId();
  const words = useQuery({ queryKey: ["vocabulary"], queryFn: ({ signal }) => told(api.GET("/v1/vocabulary", { signal })), enabled: isOpen, staleTime: 60_000 });
  useEffect(() => setText(where), [where]);

  const offers = offersAt(text, caret, words.data?.labels ?? []);
  const shown = text === "" ? [...recent.map(again), ...offers] : offers;
  const isShown = isOpen && shown.length > 0;
  const chosen = isShown ? shown[at] : undefined;

  const write = (line: string, where_ = line.length): void => (setText(line), setCaret(where_), setAt(-1), setOpen(true));
  const go = (line: string): void => {
    setOpen(false);
    setAt(-1);
    keep(line.trim());
    if (line.trim() !== where) ask({ where: line.trim() });
  };
  const take = (offer: Offer): void => {
    write(offer.line, offer.caret);
    requestAnimationFrame(() => input.current?.setSelectionRange(offer.caret, offer.caret));
    if (recent.includes(offer.line) && text === "") go(offer.line);
    else if (!offer.isOpen) setOpen(false);
  };
  const press = (event: KeyboardEvent<HTMLInputElement>): void => {
    const step = event.key === "ArrowDown" ? 1 : event.key === "ArrowUp" ? -1 : 0;
    if (step !== 0) {
      setOpen(true);
      if (isShown) setAt((at + step + shown.length + (at < 0 && step < 0 ? 1 : 0)) % shown.length);
    } else if ((event.key === "Enter" || event.key === "Tab") && chosen) take(chosen);
    else if (event.key === "Escape" && isShown) setOpen(false);
    else if (event.key === "Escape") (setText(where), document.getElementById(MAIN_ID)?.focus());
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  const submit = (event: FormEvent): void => (event.preventDefault(), go(text));

  return (
    <form className={css.query} role="search" data-on={where !== ""} onSubmit={submit}>
      <Icon name="search" />
      <input
        ref={input} id={QUERY_ID} role="combobox" aria-label="Label selector" aria-expanded={isShown} aria-controls={list} aria-autocomplete="list"
        aria-activedescendant={chosen ? `${list}-${at}` : undefined} placeholder="Labels: app=shop, env in (prod, stage)" value={text} autoComplete="off" spellCheck={false}
        onChange={(event) => write(event.target.value, event.target.selectionStart ?? event.target.value.length)}
        onSelect={(event) => setCaret(event.currentTarget.selectionStart ?? 0)} onFocus={() => setOpen(true)} onBlur={() => go(text)} onKeyDown={press}
      />
      {where ? <Button look="quiet" isTight icon="close" aria-label="Ask about everything" onClick={() => (setText(""), ask({ where: "" }), input.current?.focus())} /> : <kbd aria-hidden="true">/</kbd>}
      <ul id={list} className={css.offers} role="listbox" aria-label="What may be written here" hidden={!isShown}>
        {isShown && shown.map((offer, index) => (
          <li
            key={`${offer.about} ${offer.text}`} id={`${list}-${index}`} role="option" aria-selected={index === at}
            onMouseDown={(event) => (event.preventDefault(), take(offer))}
          >
            <b>{printable(offer.text)}</b><small>{offer.about}</small>
          </li>
        ))}
      </ul>
    </form>
  );
}
