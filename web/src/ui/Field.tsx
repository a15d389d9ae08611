// Where people write and choose. Every field has a name they can see.

import { type InputHTMLAttributes, type ReactNode, type SelectHTMLAttributes, type TextareaHTMLAttributes, useEffect, useId, useRef, useState } from "react";
import css from "./Field.module.css";

interface Said {
  name: string;
  help?: ReactNode;
  wrong?: string | undefined;
}

export function Field({ name, help, wrong, ...rest }: Said & InputHTMLAttributes<HTMLInputElement>) {
  const id = useId();
  return (
    <label className={css.field}>
      <span id={`${id}-name`}>{name}</span>
      <input className={css.input} aria-labelledby={`${id}-name`} aria-invalid={wrong ? true : undefined} aria-describedby={help || wrong ? id : undefined} autoComplete="off" spellCheck={false} {...rest} />
      {(wrong || help) && <small id={id} className={wrong ? css.wrong : undefined} aria-live="polite">{wrong || help}</small>}
    </label>
  );
}

export function Area({ name, help, ...rest }: Said & TextareaHTMLAttributes<HTMLTextAreaElement>) {
  const id = useId();
  return (
    <label className={css.field}>
      <span id={`${id}-name`}>{name}</span>
      <textarea className={css.input} rows={2} aria-labelledby={`${id}-name`} aria-describedby={help ? id : undefined} {...rest} />
      {help && <small id={id}>{help}</small>}
    </label>
  );
}

/** One of many. Tight: in a bar of filters, its name is read by screen readers only. */
export function Select({ name, values, isTight = false, ...rest }: { name: string; values: readonly (readonly [string, string])[]; isTight?: boolean } & SelectHTMLAttributes<HTMLSelectElement>) {
  const id = useId();
  return (
    <label className={css.field}>
      <span id={id} className={isTight ? "hidden" : undefined}>{name}</span>
      <select className={`${css.input} ${isTight ? css.tight : ""}`} aria-labelledby={id} {...rest}>
        {values.map(([value, word]) => <option key={value} value={value}>{word}</option>)}
      </select>
    </label>
  );
}

/** One of a few that need a sentence each. */
export function Options<T extends string>({ name, values, chosen, onChoose }: { name: string; values: readonly { id: T; name: string; help: string }[]; chosen: T; onChoose: (id: T) => void }) {
  const group = useId();
  return (
    <fieldset className={css.field}>
      <legend>{name}</legend>
      <div className={css.options}>
        {values.map((one) => (
          <label key={one.id} className={css.option}>
            <input type="radio" name={group} aria-labelledby={`${group}-${one.id}`} aria-describedby={`${group}-${one.id}-help`} checked={one.id === chosen} onChange={() => onChoose(one.id)} />
            <b id={`${group}-${one.id}`}>{one.name}</b>
            <small id={`${group}-${one.id}-help`}>{one.help}</small>
          </label>
        ))}
      </div>
    </fieldset>
  );
}

export function Check({ isOn, isPartly = false, onChange, label, children }: { isOn: boolean; isPartly?: boolean; onChange: (isOn: boolean) => void; label?: string; children?: ReactNode }) {
  const box = useRef<HTMLInputElement>(null);
  useEffect(() => {
    if (box.current) box.current.indeterminate = isPartly;
  }, [isPartly]);
  const input = <input ref={box} type="checkbox" className={css.box} checked={isOn} aria-label={label} onChange={(event) => onChange(event.target.checked)} onClick={(event) => event.stopPropagation()} />;
  return children ? <label className={css.check}>{input}<span>{children}</span></label> : input;
}

/** A small search field in a bar. */
export function Filter({ name, ...rest }: { name: string } & InputHTMLAttributes<HTMLInputElement>) {
  return (
    <label className={css.field}>
      <span className="hidden">{name}</span>
      <input type="search" className={`${css.input} ${css.tight}`} placeholder={name} autoComplete="off" spellCheck={false} {...rest} />
    </label>
  );
}

/** A filter whose text the address holds. What is typed is the field's own until it is told: the caret stays where it is. */
export function LiveFilter({ name, value, onType }: { name: string; value: string; onType: (text: string) => void }) {
  const [text, setText] = useState(value);
  const [seen, setSeen] = useState(value);
  if (value !== seen) {
    setSeen(value);
    setText(value);
  }
  const type = (next: string): void => (setText(next), onType(next));
  return <Filter name={name} value={text} onChange={(event) => type(event.target.value)} />;
}
