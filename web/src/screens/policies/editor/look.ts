// How the editor looks: in the page's colours, by its variables.

import { HighlightStyle, syntaxHighlighting } from "@codemirror/language";
import { EditorView } from "@codemirror/view";
import { tags } from "@lezer/highlight";

const theme = EditorView.theme({
  "&": { height: "100%", color: "var(--ink)", backgroundColor: "var(--card)", fontSize: "13px" },
  "&.cm-focused": { outline: "2px solid var(--accent)", outlineOffset: "-2px" },
  ".cm-scroller": { fontFamily: "var(--mono)", lineHeight: "1.65", overflow: "auto" },
  ".cm-content": { caretColor: "var(--ink)", padding: "10px 0" },
  ".cm-cursor, .cm-dropCursor": { borderLeftColor: "var(--ink)", borderLeftWidth: "2px" },
  ".cm-gutters": { backgroundColor: "var(--card)", color: "var(--ink-soft)", border: "0", paddingLeft: "4px" },
  ".cm-lineNumbers .cm-gutterElement": { minWidth: "30px", padding: "0 10px 0 4px", fontVariantNumeric: "tabular-nums" },
  ".cm-activeLine": { backgroundColor: "color-mix(in oklab, var(--accent-back), transparent 62%)" },
  ".cm-activeLineGutter": { backgroundColor: "transparent", color: "var(--ink)" },
  "&.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground, .cm-selectionBackground": { background: "color-mix(in oklab, var(--accent), transparent 72%) !important" },
  ".cm-selectionMatch": { backgroundColor: "var(--accent-back)" },
  ".cm-matchingBracket, &.cm-focused .cm-matchingBracket": { backgroundColor: "var(--accent-back)", outline: "1px solid var(--accent)" },
  ".cm-searchMatch": { backgroundColor: "var(--would-block-back)", outline: "1px solid var(--would-block)" },
  ".cm-panels": { backgroundColor: "var(--sunken)", color: "var(--ink)", borderColor: "var(--line)", font: "12px Inter, system-ui, sans-serif" },
  ".cm-panel.cm-search": { padding: "8px 10px" },
  ".cm-textfield": { backgroundColor: "var(--card)", color: "var(--ink)", border: "1px solid var(--field-line)", borderRadius: "6px", padding: "3px 7px", fontSize: "12px" },
  ".cm-button": { backgroundImage: "none", backgroundColor: "var(--raised)", color: "var(--ink)", border: "1px solid var(--line-strong)", borderRadius: "6px", padding: "3px 9px", fontSize: "12px" },
  ".cm-tooltip": { backgroundColor: "var(--raised)", color: "var(--ink)", border: "1px solid var(--line-strong)", borderRadius: "9px", boxShadow: "var(--shadow-high)", overflow: "hidden" },
  ".cm-tooltip.cm-tooltip-autocomplete > ul": { fontFamily: "var(--mono)", fontSize: "12px", maxHeight: "270px", minWidth: "240px", padding: "4px" },
  ".cm-tooltip.cm-tooltip-autocomplete > ul > li": { padding: "3px 8px !important", borderRadius: "5px", display: "flex", gap: "10px", alignItems: "baseline" },
  ".cm-tooltip-autocomplete > ul > li[aria-selected]": { background: "var(--accent-back) !important", color: "var(--ink) !important" },
  ".cm-completionMatchedText": { textDecoration: "none", color: "var(--accent)", fontWeight: "650" },
  ".cm-completionDetail": { marginLeft: "auto", fontStyle: "normal", color: "var(--ink-soft)", font: "12px Inter, system-ui, sans-serif" },
  ".cm-tooltip-lint": { padding: "0", maxWidth: "520px", font: "13px/1.45 Inter, system-ui, sans-serif" },
  ".cm-diagnostic": { padding: "9px 13px 10px", borderLeft: "3px solid var(--line-strong)", whiteSpace: "normal" },
  ".cm-diagnostic + .cm-diagnostic": { borderTop: "1px solid var(--line)" },
  ".cm-diagnostic-error": { borderLeftColor: "var(--blocked)" },
  ".cm-diagnostic-warning": { borderLeftColor: "var(--would-block)" },
  ".cm-diagnostic-info": { borderLeftColor: "var(--accent)" },
  ".cm-diagnosticAction": { margin: "8px 6px 0 0", padding: "3px 10px", borderRadius: "6px", backgroundColor: "var(--accent)", color: "var(--accent-ink)", font: "550 12px Inter, system-ui, sans-serif", cursor: "pointer" },
  ".rf-help": { display: "block", color: "var(--ink-soft)", marginTop: "2px" },
  ".rf-code": { display: "block", color: "var(--ink-soft)", font: "11.5px var(--mono)", marginTop: "3px" },
  ".cm-lintRange-error": { backgroundImage: "none", textDecoration: "underline wavy var(--blocked) 1.3px", textUnderlineOffset: "4px", textDecorationSkipInk: "none" },
  ".cm-lintRange-warning": { backgroundImage: "none", textDecoration: "underline wavy var(--would-block) 1.3px", textUnderlineOffset: "4px", textDecorationSkipInk: "none" },
  ".cm-lintRange-info": { backgroundImage: "none", textDecoration: "underline dotted var(--accent) 1.5px", textUnderlineOffset: "4px" },
  ".cm-gutter-lint": { width: "16px" },
  ".cm-lint-marker": { boxSizing: "border-box", width: "10px", height: "10px", marginTop: "5px", borderRadius: "50%" },
  ".cm-lint-marker-error": { content: "none", backgroundColor: "var(--blocked)", borderRadius: "2px" },
  ".cm-lint-marker-warning": { content: "none", backgroundColor: "var(--would-block)" },
  ".cm-lint-marker-info": { content: "none", border: "2px solid var(--accent)" },
});

const colours = HighlightStyle.define([
  { tag: [tags.propertyName, tags.definition(tags.propertyName)], color: "var(--accent)" },
  { tag: [tags.comment, tags.lineComment], color: "var(--ink-soft)", fontStyle: "italic" },
  { tag: [tags.string, tags.special(tags.string)], color: "var(--allowed)" },
  { tag: [tags.separator, tags.punctuation, tags.squareBracket, tags.brace], color: "var(--ink-soft)" },
  { tag: [tags.keyword, tags.bool, tags.null], color: "var(--would-block)" },
  { tag: tags.invalid, color: "var(--blocked)" },
]);

export const look = [theme, syntaxHighlighting(colours)];
