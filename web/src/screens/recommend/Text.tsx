// The accepted rules as policy files: to the Policies screen as a draft, or out of the browser. Nothing is applied here.

import { useMutation } from "@tanstack/react-query";
import { useNavigate } from "react-router";
import { filesInForce } from "../../parts/inForce";
import { useDrafts } from "../../parts/drafts";
import { SCREENS } from "..";
import { Badge } from "../../ui/Badge";
import { Code, ErrorBox, Note } from "../../ui/Box";
import { Button } from "../../ui/Button";
import { say } from "../../ui/Over";
import { plural, printable } from "../../words";
import type { Recommended } from "./asking";
import css from "./Recommend.module.css";

type Files = Recommended["files"];

export function HandOver({ files, broken }: { files: Files; broken: Recommended["broken"] }) {
  const drafts = useDrafts();
  const navigate = useNavigate();
  const hasPolicies = SCREENS.some((screen) => screen.path === "/policies");
  const take = useMutation({
    mutationFn: filesInForce,
    onSuccess: (inForce) => {
      for (const one of files) drafts.write(one.file, one.text, { was: inForce.files[one.file] ?? null, version: inForce.version });
      say(`${plural(files.length, "draft")} in Policies; nothing is applied`);
      if (hasPolicies) void navigate("/policies");
    },
  });
  if (files.length === 0) return <Note>No rule is accepted: there is nothing to hand over.</Note>;
  const replaced = files.filter((one) => one.file in drafts.drafts).map((one) => one.file);
  return (
    <div className={css.hand}>
      <div>
        <p><b>{plural(files.length, "file")}</b> <span className="soft">{files.map((one) => printable(one.file)).join(", ")}</span></p>
        <p className="soft small">A draft is planned, tested and applied in Policies; taking it there changes nothing in force.{replaced.length > 0 && ` It takes the place of your unsaved ${replaced.map(printable).join(", ")}.`}</p>
        {broken.length > 0 && <p><Badge tone="bad" mark="✕">{plural(broken.length, "test")} would fail</Badge></p>}
        {take.error && <ErrorBox error={take.error} />}
      </div>
      <Button icon="copy" onClick={() => void navigator.clipboard.writeText(joined(files)).then(() => say("Copied"))}>Copy</Button>
      <Button icon="down" onClick={() => files.forEach(download)}>Download</Button>
      <Button look="primary" icon="policy" isBusy={take.isPending} onClick={() => take.mutate()}>Take to Policies</Button>
    </div>
  );
}

export const Text = ({ files }: { files: Files }) => (
  <>
    {files.map((one) => (
      <section key={one.file} className={css.file} aria-label={one.file}>
        <h3>{printable(one.file)} {one.is_new ? <Badge tone="accent">new</Badge> : <Badge>changed</Badge>}</h3>
        <Code text={one.text} />
      </section>
    ))}
  </>
);

const joined = (files: Files): string => files.map((one) => (files.length > 1 ? `# ${one.file}\n${one.text}` : one.text)).join("\n---\n");

function download(one: Files[number]): void {
  const url = URL.createObjectURL(new Blob([one.text], { type: "application/yaml" }));
  const link = Object.assign(document.createElement("a"), { href: url, download: one.file });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}
