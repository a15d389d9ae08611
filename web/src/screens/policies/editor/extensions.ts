// What the editor can do: YAML, offers of words, findings with their fixes. No state of the page is in here.

import { autocompletion, type Completion, type CompletionContext, type CompletionResult, acceptCompletion, closeBrackets, closeBracketsKeymap, completionKeymap, completionStatus, startCompletion } from "@codemirror/autocomplete";
import { defaultKeymap, history, historyKeymap } from "@codemirror/commands";
import { yaml } from "@codemirror/lang-yaml";
import { bracketMatching, indentOnInput, indentUnit } from "@codemirror/language";
import { type Diagnostic, lintGutter, lintKeymap } from "@codemirror/lint";
import { highlightSelectionMatches, search, searchKeymap } from "@codemirror/search";
import { EditorState, type Extension } from "@codemirror/state";
import { type Command, drawSelection, EditorView, highlightActiveLine, highlightActiveLineGutter, keymap, lineNumbers } from "@codemirror/view";
import type { Finding, Words } from "../../../api/types";
import { printable } from "../../../words";
import { type Offer, offersAt } from "./complete";
import { fixOf, spanOf } from "./fixes";
import { look } from "./look";

const KINDS: Record<Offer["kind"], string> = { key: "keyword", segment: "class", label: "property", service: "function", word: "constant", policy: "namespace" };
const BOOST: Record<Offer["kind"], number> = { key: 0, segment: 9, word: 5, label: 3, service: 0, policy: 0 };

export interface Asked {
  /** Said by screen readers. */
  label: string;
  isReadOnly: boolean;
  words: () => Words | undefined;
  onChange: (text: string) => void;
}

export function extensions({ label, isReadOnly, words, onChange }: Asked): Extension[] {
  return [
    lineNumbers(), lintGutter(), history(), drawSelection(), highlightActiveLine(), highlightActiveLineGutter(), bracketMatching(), indentOnInput(),
    indentUnit.of("  "), EditorState.tabSize.of(2), yaml(), closeBrackets(), search({ top: true }), highlightSelectionMatches(), look,
    autocompletion({ override: [(context) => completions(context, words())], icons: false, activateOnTyping: true }),
    keymap.of([{ key: "Tab", run: take }, ...closeBracketsKeymap, ...defaultKeymap, ...searchKeymap, ...historyKeymap, ...completionKeymap, ...lintKeymap]),
    EditorView.contentAttributes.of({ "aria-label": label, "aria-description": "Tab leaves the text; Control Space offers words, F8 goes to the next finding", tabindex: "0", spellcheck: "false", autocorrect: "off", autocapitalize: "off" }),
    EditorState.readOnly.of(isReadOnly), EditorView.editable.of(!isReadOnly),
    EditorView.domEventHandlers({ beforeinput: typedOver }),
    EditorView.updateListener.of((update) => update.docChanged && onChange(update.state.doc.toString())),
  ];
}

/** The word that is offered. In its first moment it is not taken yet, and the text is not left either. */
const take: Command = (view) => acceptCompletion(view) || completionStatus(view.state) === "active";

/** Typing over several lines: the browser would carry their look over as a style attribute, which the page's policy forbids. */
function typedOver(event: InputEvent, view: EditorView): boolean {
  const { from, to } = view.state.selection.main;
  const { doc } = view.state;
  if (event.inputType !== "insertText" || !event.data || view.composing || doc.lineAt(from).number === doc.lineAt(to).number) return false;
  event.preventDefault();
  view.dispatch(view.state.replaceSelection(view.state.toText(event.data)), { userEvent: "input.type", scrollIntoView: true });
  return true;
}

function completions(context: CompletionContext, words: Words | undefined): CompletionResult | null {
  const found = words && offersAt(context.state.doc.toString(), context.pos, words);
  if (!found || found.offers.length === 0) return null;
  if (!context.explicit && found.from === context.pos && !/[\s={[,"]$/.test(context.state.sliceDoc(Math.max(0, context.pos - 1), context.pos))) return null;
  const isBlank = context.state.sliceDoc(context.state.doc.lineAt(context.pos).from, context.pos).trim() === "";
  if (isBlank && !context.explicit) return null;
  return { from: found.from, options: found.offers.map(completion), validFor: /^[\w.-]*$/ };
}

const completion = (offer: Offer): Completion => ({
  label: printable(offer.label),
  type: KINDS[offer.kind],
  boost: BOOST[offer.kind],
  ...(offer.detail ? { detail: printable(offer.detail) } : {}),
  apply: (view, _, from, to) => {
    const insert = offer.apply ?? offer.label;
    view.dispatch({ changes: { from, to, insert }, selection: { anchor: from + insert.length }, userEvent: "input.complete" });
    if (offer.isOpen) startCompletion(view);
  },
});

/** Findings as the editor marks them. */
export const diagnostics = (findings: readonly Finding[], text: string): Diagnostic[] =>
  findings.map((finding) => {
    const fix = fixOf(finding, text);
    return {
      ...spanOf(finding, text),
      severity: finding.severity,
      message: finding.message,
      renderMessage: () => messageOf(finding),
      actions: fix ? [{ name: `Use ${printable(fix.insert)}`, apply: (view: EditorView) => view.dispatch({ changes: fix, userEvent: "input.fix" }) }] : [],
    };
  });

function messageOf(finding: Finding): HTMLElement {
  const whole = document.createElement("div");
  for (const [look, text] of [["", finding.message], ["rf-help", finding.help], ["rf-code", finding.code]] as const) {
    if (!text) continue;
    const part = document.createElement("span");
    part.className = look;
    part.textContent = printable(text);
    whole.append(part);
  }
  return whole;
}
