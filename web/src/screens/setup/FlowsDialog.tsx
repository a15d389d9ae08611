// Flow logs from the browser. Those chosen together are imported together: one upload, sent with how far it is, then read
// by the controller with how far it is. One upload is sent at a time; the next waits for its turn by itself.

import { useMutation } from "@tanstack/react-query";
import { useEffect, useRef, useState } from "react";
import { Link } from "react-router";
import { ApiError } from "../../api/errors";
import { refresh } from "../../api/queries";
import { upload } from "../../api/upload";
import { Badge } from "../../ui/Badge";
import { ErrorBox, Progress } from "../../ui/Box";
import { Button } from "../../ui/Button";
import { Dialog } from "../../ui/Over";
import { count, plural, printable } from "../../words";
import { archiveOf, batched, named, type Packed } from "./archive";
import { type Job, useJob } from "./asking";
import { FileDrop } from "./FileDrop";
import css from "./Setup.module.css";
import { size } from "./words";

const AGAIN_MS = 2000;

export function FlowsDialog({ onClose }: { onClose: () => void }) {
  const [batches, setBatches] = useState<readonly File[][]>([]);
  const [sent, setSent] = useState(0);
  return (
    <Dialog
      title="Import flow logs" about="Choose the logs of all reporters of one time together: a connection that both its ends report counts once. A file that was imported is not imported twice." onClose={onClose} isWide
      foot={<><span className="soft small">{batches.length > 0 && (sent < batches.length ? "Closing stops what is not sent yet; what was sent is read on." : "Closing leaves what was sent being read.")}</span><Button onClick={onClose}>Close</Button></>}
    >
      <FileDrop label="Flow logs" hint="AWS VPC flow logs and Zeek conn.log (TSV or JSON), plain, gzip or zstd, up to 2 GiB together" isMany onFiles={(more) => setBatches([...batches, ...batched(more)])} />
      {batches.length > 0 && <ol className={css.uploads}>{batches.map((files, index) => <Batch key={index} files={files} isTurn={index <= sent} onSent={() => setSent((before) => Math.max(before, index + 1))} />)}</ol>}
      <p className="soft small">Addresses get names from the inventory: import one first, and the map shows applications in place of addresses.</p>
    </Dialog>
  );
}

/** One file as it is, several as an archive. */
function packedOf(files: readonly File[]): { name: string; content: Blob; packed: Packed[] } {
  const [only] = files;
  if (files.length === 1 && only) return { name: named(files)[0] ?? "", content: only, packed: [{ name: only.name, end: only.size }] };
  return { name: `${count(files.length)} flow logs.tar`, ...archiveOf(files) };
}

const pause = (ms: number, signal: AbortSignal): Promise<void> =>
  new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => (clearTimeout(timer), reject(new DOMException("stopped", "AbortError"))), { once: true });
  });

/** Sent once there is room: while the controller reads as many as it takes at once, this waits. */
async function sentInTurn(name: string, content: Blob, onBytes: (bytes: number) => void, signal: AbortSignal): Promise<Job> {
  for (;;) {
    try {
      return await upload<Job>(`/v1/flows/import?${new URLSearchParams({ name })}`, content, onBytes, signal);
    } catch (error) {
      if (!(error instanceof ApiError && error.code === "too-many-jobs")) throw error;
    }
    onBytes(0);
    await pause(AGAIN_MS, signal);
  }
}

function Batch({ files, isTurn, onSent }: { files: readonly File[]; isTurn: boolean; onSent: () => void }) {
  const [{ name, content, packed }] = useState(() => packedOf(files));
  const [bytes, setBytes] = useState(0);
  const stop = useRef<AbortController | null>(null);
  const send = useMutation({
    mutationFn: () => {
      stop.current = new AbortController();
      return sentInTurn(name, content, setBytes, stop.current.signal);
    },
    onSettled: onSent,
  });
  const { mutate } = send;
  const isBegun = useRef(false);
  useEffect(() => {
    if (!isTurn || isBegun.current) return;
    isBegun.current = true;
    mutate();
  }, [isTurn, mutate]);
  useEffect(() => () => void (send.isPending && stop.current?.abort()), [send.isPending]);
  const found = useJob(send.data?.id ?? "");
  const job = found.data ?? send.data;
  const error = send.error ?? found.error;
  const isOver = job !== undefined && job.state !== "running";
  useEffect(() => void (isOver && refresh("map", "flows", "matrix", "posture", "recommend", "simulate", "status")), [isOver]);
  const title = files.length === 1 ? printable(files[0]?.name ?? "") : `${count(files.length)} files, imported together`;
  return (
    <li>
      <p className={css.fileLine}><b>{title}</b><span className="soft">{size(content.size)}</span><Standing state={error ? "failed" : stateOf(job, bytes)} /></p>
      {!job && !error && <Progress label={`Sending ${title}`} value={Math.min(bytes, content.size)} of={content.size} />}
      {job?.state === "running" && <Progress label={`Reading ${title}`} value={job.done_bytes} of={job.total_bytes} />}
      {error && <ErrorBox error={error} onRetry={() => mutate()} />}
      {job && <Read job={job} />}
      {files.length > 1 && (
        <ul className={css.files} tabIndex={0} aria-label="Files">
          {packed.map((one) => {
            const told = job?.files.find((file) => file.name === one.name);
            return <li key={one.name}><span>{printable(one.name)}</span>{told && told.state !== "running" && <small className="soft">{plural(told.records, "record")}</small>}<Standing state={error ? "failed" : told ? told.state : bytes >= one.end ? "sent" : stateOf(job, bytes)} /></li>;
          })}
        </ul>
      )}
    </li>
  );
}

const STATES = {
  queued: ["plain", "…", "queued"], sending: ["accent", "…", "sending"], sent: ["accent", "✓", "sent"], running: ["accent", "…", "reading"], done: ["good", "✓", "imported"],
  imported: ["good", "✓", "imported"], "already-imported": ["plain", "=", "imported before"], refused: ["bad", "✕", "refused"], failed: ["bad", "✕", "failed"],
} as const;

const stateOf = (job: Job | undefined, bytes: number): keyof typeof STATES => job?.state ?? (bytes > 0 ? "sending" : "queued");

function Standing({ state }: { state: keyof typeof STATES }) {
  const [tone, mark, word] = STATES[state];
  return <Badge tone={tone} mark={mark}>{word}</Badge>;
}

function Read({ job }: { job: Job }) {
  return (
    <>
      <p className="soft" role="status">{plural(job.records, "record")}{job.state === "done" && <> · {plural(job.connections, "connection")}{job.malformed > 0 && ` · ${count(job.malformed)} malformed, left out`} · <Link to="/map">see them on the map</Link> · <Link to="/recommend">a policy for them</Link></>}</p>
      {job.findings.length > 0 && <ul className={css.findings}>{job.findings.map((one, index) => <li key={index}><p>{one.where?.file && !one.message.includes(one.where.file) && <b>{printable(one.where.file)}: </b>}{printable(one.message)} <code className="soft">{one.code}</code></p>{one.help && <p className="soft small">{printable(one.help)}</p>}</li>)}</ul>}
    </>
  );
}
