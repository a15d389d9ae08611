import { Badge } from "../../ui/Badge";
import type { Life } from "./words";

const LIVES = { open: { tone: "good", mark: "✓", word: "open" }, used: { tone: "plain", mark: "●", word: "used up" }, ended: { tone: "unknown", mark: "○", word: "ended" }, revoked: { tone: "bad", mark: "✕", word: "revoked" } } as const;

export function LifeBadge({ life }: { life: Life }) {
  const { tone, mark, word } = LIVES[life];
  return <Badge tone={tone} mark={mark}>{word}</Badge>;
}
