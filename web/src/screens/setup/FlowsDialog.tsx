// Flow logs from the browser: sent with how far they are, then read by the controller with how far it is.

import { useMutation } from "@tanstack/react-query";
import { useEffect, useRef, useState } from "react";
import { Link } from "react-router";
import { refresh } from "../../api/queries";
import { upload } from "../../api/upload";
import { Badge } from "../../ui/Badge";
import { ErrorBox, Progress } from "../../ui/Box";
import { Button } from "../../ui/Button";
import { Dialog, Section } from "../../ui/Over";
import { count, plural, printable } from "../../words";
import { type Job, useJob } from "./asking";
import { FileDrop } from "./FileDrop";
import css from "./Setup.module.css";
import { size } from "./words";

export function FlowsDialog({ onClose }: { onClose: () => void }) {
  const [files, setFiles] = useState<readonly File[]>([]);
  return (
    <Dialog
      title="Import flow logs" about="Each is sent, recognised and read; one that was imported is not imported twice." onClose={onClose} isWide
      foot={<><span className="soft small">{files.length > 0 && "Closing leaves what was sent being read."}</span><Button onClick={onClose}>Close</Button></>}
    >
      <FileDrop label="Flow logs" hint="AWS VPC flow logs and Zeek conn.log (TSV or JSON), plain, gzip or zstd, up to 2 GiB each" isMany onFiles={(more) => setFiles([...files, ...more])} />
      {files.length > 0 && <Section title="Files"><ul className={css.uploads}>{files.map((file, index) => <Upload key={index} file={file} />)}</ul></Section>}
      <p className="soft small">Addresses get names from the inventory: import one first, and the map shows applications in place of addresses. From the command line: <code>ringfence flows import conn.log.gz</code></p>
    </Dialog>
  );
}

function Upload({ file }: { file: File }) {
  const [sent, setSent] = useState(0);
  const stop = useRef<AbortController | null>(null);
  const send = useMutation({
    mutationFn: () => {
      stop.current = new AbortController();
      return upload<Job>(`/v1/flows/import?${new URLSearchParams({ name: file.name })}`, file, setSent, stop.current.signal);
    },
  });
  const { mutate } = send;
  const isBegun = useRef(false);
  useEffect(() => {
    if (!isBegun.current) mutate();
    isBegun.current = true;
  }, [mutate]);
  useEffect(() => () => void (send.isPending && stop.current?.abort()), [send.isPending]);
  const found = useJob(send.data?.id ?? "");
  const job = found.data ?? send.data;
  const isOver = job !== undefined && job.state !== "running";
  useEffect(() => void (isOver && refresh("map", "flows", "matrix", "posture", "recommend", "simulate", "status")), [isOver]);
  return (
    <li>
      <p className={css.fileLine}><b>{printable(file.name)}</b><span className="soft">{size(file.size)}</span><StateOf job={job} isFailed={send.isError || found.isError} /></p>
      {!job && !send.isError && <Progress label={`Sending ${file.name}`} value={sent} of={file.size} />}
      {job?.state === "running" && <Progress label={`Reading ${file.name}`} value={job.done_bytes} of={job.total_bytes} />}
      {(send.error ?? found.error) && <ErrorBox error={send.error ?? found.error} onRetry={() => mutate()} />}
      {job && <Read job={job} />}
    </li>
  );
}

function StateOf({ job, isFailed }: { job: Job | undefined; isFailed: boolean }) {
  if (isFailed || job?.state === "failed") return <Badge tone="bad" mark="✕">failed</Badge>;
  if (!job) return <Badge tone="accent" mark="…">sending</Badge>;
  return job.state === "done" ? <Badge tone="good" mark="✓">imported</Badge> : <Badge tone="accent" mark="…">reading</Badge>;
}

function Read({ job }: { job: Job }) {
  return (
    <>
      <p className="soft">{plural(job.records, "record")}{job.state === "done" && <> · {plural(job.connections, "connection")}{job.malformed > 0 && ` · ${count(job.malformed)} malformed, left out`} · <Link to="/map">see them on the map</Link> · <Link to="/recommend">a policy for them</Link></>}</p>
      {job.findings.length > 0 && <ul className={css.findings}>{job.findings.map((one, index) => <li key={index}><p>{printable(one.message)} <code className="soft">{one.code}</code></p>{one.help && <p className="soft small">{printable(one.help)}</p>}</li>)}</ul>}
    </>
  );
}
