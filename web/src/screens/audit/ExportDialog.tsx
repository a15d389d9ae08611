// All that the filters pick, out of the browser: not only what was scrolled to.

import { useMutation } from "@tanstack/react-query";
import { useEffect, useRef, useState } from "react";
import { api, told } from "../../api/client";
import type { AuditEntry } from "../../api/types";
import { ErrorBox } from "../../ui/Box";
import { Button } from "../../ui/Button";
import { Options } from "../../ui/Field";
import { Dialog, say } from "../../ui/Over";
import { count, printable } from "../../words";
import { jsonLines, save } from "./export";

const PAGE = 1000;

/** What the filters ask for. */
export interface Asked {
  actor: string;
  action: string;
  subject: string;
}

/** The latest first. `onMore`: how many there are so far. */
async function everyEntry(asked: Asked, onMore: (entries: number) => void, signal: AbortSignal): Promise<AuditEntry[]> {
  const found: AuditEntry[] = [];
  for (let before = 0; ; ) {
    const page = await told(api.GET("/v1/audit", { params: { query: { before, limit: PAGE, ...asked } }, signal }));
    found.push(...page);
    onMore(found.length);
    const last = page.at(-1);
    if (page.length < PAGE || !last) return found;
    before = last.seq;
  }
}

const FORMATS = [
  { id: "jsonl", name: "JSON lines", help: "One entry a line, with the hashes that chain it. For archives and other systems." },
  { id: "csv", name: "CSV", help: "One entry a row. For a spreadsheet." },
] as const;

export function ExportDialog({ asked, onClose }: { asked: Asked; onClose: () => void }) {
  const [format, setFormat] = useState<(typeof FORMATS)[number]["id"]>("jsonl");
  const [read, setRead] = useState(0);
  const stop = useRef(new AbortController());
  useEffect(() => {
    const own = (stop.current = new AbortController());
    return () => own.abort();
  }, []);
  const take = useMutation({
    mutationFn: async () => {
      const { signal } = stop.current;
      if (format === "jsonl") return new Blob([jsonLines(await everyEntry(asked, setRead, signal))], { type: "application/x-ndjson" });
      return told(api.GET("/v1/audit/csv", { params: { query: { ...asked } }, parseAs: "blob", signal }) as Promise<{ data?: Blob; response: Response }>);
    },
    onSuccess: (content) => {
      save(content, `audit-${new Date().toISOString().slice(0, 19).replaceAll(":", "")}Z.${format}`);
      say("Exported");
      onClose();
    },
  });
  const filters = Object.values(asked).filter(Boolean).map(printable).join(", ");
  return (
    <Dialog
      title="Export the audit log" about={filters ? `Every entry with ${filters}, the latest first.` : "Every entry, the latest first."} onClose={onClose}
      foot={<><span className="soft small" role="status">{take.isPending && read > 0 && `${count(read)} read`}</span><Button onClick={onClose}>Cancel</Button><Button look="primary" icon="save" isBusy={take.isPending} onClick={() => take.mutate()}>Export</Button></>}
    >
      <Options name="Format" values={FORMATS} chosen={format} onChoose={setFormat} />
      {take.error && <ErrorBox error={take.error} />}
    </Dialog>
  );
}
