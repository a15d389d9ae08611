// CodeMirror in the page. It lives in a shadow root: there its styles are constructed sheets, which the strict
// Content-Security-Policy lets in, and nothing of ours leaks into it but the variables of the theme.

import { setDiagnostics } from "@codemirror/lint";
import { EditorState } from "@codemirror/state";
import { EditorView } from "@codemirror/view";
import { type Ref, useEffect, useImperativeHandle, useRef } from "react";
import type { Finding, Words } from "../../../api/types";
import css from "../Policies.module.css";
import { diagnostics, extensions } from "./extensions";
import type { Fix } from "./fixes";

export interface EditorHandle {
  goTo: (line: number) => void;
  apply: (fix: Fix) => void;
}

interface Props {
  handle?: Ref<EditorHandle>;
  file: string;
  text: string;
  isReadOnly: boolean;
  words: Words | undefined;
  findings: readonly Finding[];
  /** The text that the findings are about. */
  checked: string | undefined;
  onChange: (text: string) => void;
}

export function CodeEditor({ handle, file, text, isReadOnly, words, findings, checked, onChange }: Props) {
  const place = useRef<HTMLDivElement>(null);
  const view = useRef<EditorView | null>(null);
  const latest = useRef({ words, onChange, text });
  latest.current = { words, onChange, text };

  useEffect(() => {
    const host = place.current;
    if (!host) return;
    const root = host.shadowRoot ?? host.attachShadow({ mode: "open", delegatesFocus: true });
    const made = extensions({ label: `Text of ${file}`, isReadOnly, words: () => latest.current.words, onChange: (now) => latest.current.onChange(now) });
    const one = new EditorView({ state: EditorState.create({ doc: latest.current.text, extensions: made }), parent: root, root });
    view.current = one;
    return () => {
      one.destroy();
      view.current = null;
    };
  }, [file, isReadOnly]);

  useEffect(() => {
    const one = view.current;
    if (one && one.state.doc.toString() !== text) one.dispatch({ changes: { from: 0, to: one.state.doc.length, insert: text } });
  }, [text]);

  useEffect(() => {
    const one = view.current;
    const now = one?.state.doc.toString();
    if (!one || now === undefined || (checked !== undefined && checked !== now)) return;
    one.dispatch(setDiagnostics(one.state, diagnostics(findings, now)));
  }, [findings, checked, file]);

  useImperativeHandle(handle, () => ({
    goTo: (line) => {
      const one = view.current;
      if (!one || line < 1) return;
      const at = one.state.doc.line(Math.min(line, one.state.doc.lines));
      one.dispatch({ selection: { anchor: at.from, head: at.to }, effects: EditorView.scrollIntoView(at.from, { y: "center" }) });
      one.focus();
    },
    apply: (fix) => view.current?.dispatch({ changes: fix, userEvent: "input.fix" }),
  }), []);

  return <div ref={place} className={css.code} data-editor={file} />;
}
