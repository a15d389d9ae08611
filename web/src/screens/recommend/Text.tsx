// The accepted rules as policy files: to the Policies screen as a draft, or out of the browser. Nothing is applied here.

import { useMutation } from "@tanstack/react-query";
import { useNavigate } from "react-router";
import { client } from "../../api/queries";
import { filesOf } from "../../parts/inForce";
import { useDrafts } from "../../parts/drafts";
import { Badge } from "../../ui/Badge";
import { Code, ErrorBox, Note } from "../../ui/Box";
import { Button } from "../../ui/Button";
import { say } from "../../ui/Over";
import { plural, printable } from "../../words";
import { acceptedOf, type Choice, type Covered } from "./accepting";
import { type Recommended, recommended, type Wanted } from "./asking";
import css from "./Recommend.module.css";

type FileText = Recommended["files"][number];

/** The next step, in sight whatever is looked at: the files are asked for once they are taken. */
export function Take({ wanted, told, choice, covered }: { wanted: Wanted; told: Recommended; choice: Choice; covered: Covered }) {
  const drafts = useDrafts();
  const navigate = useNavigate();
  const take = useMutation({
    mutationFn: async () => {
      const accept = acceptedOf(told, choice);
      const { files } = accept ? await client.fetchQuery(recommended(wanted, accept)) : told;
      return { files, before: await filesOf(files[0]?.base ?? 0) };
    },
    onSuccess: ({ files, before }) => {
      for (const one of files) drafts.write(one.file, one.text, { was: before.files[one.file] ?? null, version: before.version });
      say(`${plural(files.length, "draft")} in Policies; nothing is applied`);
      void navigate("/policies");
    },
  });
  const replaced = told.files.filter((one) => one.file in drafts.drafts).map((one) => printable(one.file));
  return (
    <section className={css.take} aria-label="Next step">
      <div>
        <p><b>{covered.rules === 0 ? "No rule is accepted" : `Next: take ${plural(covered.rules, "rule")} to Policies`}</b></p>
        <p className="soft small">{replaced.length > 0 ? `Taking them replaces your unsaved ${replaced.join(", ")}.` : "In Policies they are drafts: planned, tested and applied there. Nothing in force changes before."}</p>
        {take.error && <ErrorBox error={take.error} />}
      </div>
      <Button look="primary" icon="policy" isBusy={take.isPending} disabled={covered.rules === 0} onClick={() => take.mutate()}>Take to Policies</Button>
    </section>
  );
}

export function HandOver({ files, broken }: { files: FileText[]; broken: Recommended["broken"] }) {
  if (files.length === 0) return <Note>No rule is accepted: there is nothing to hand over.</Note>;
  return (
    <div className={css.hand}>
      <div>
        <p><b>{plural(files.length, "file")}</b> <span className="soft">{files.map((one) => printable(one.file)).join(", ")}</span></p>
        {broken.length > 0 && <p><Badge tone="bad" mark="✕">{plural(broken.length, "test")} would fail</Badge></p>}
      </div>
      <Button icon="copy" onClick={() => void navigator.clipboard.writeText(joined(files)).then(() => say("Copied"))}>Copy</Button>
      <Button icon="save" onClick={() => files.forEach(download)}>Download</Button>
    </div>
  );
}

export const Files = ({ files }: { files: FileText[] }) => (
  <>
    {files.map((one) => (
      <section key={one.file} className={css.file} aria-label={one.file}>
        <h3>{printable(one.file)} {one.is_new ? <Badge tone="accent">new</Badge> : <Badge>changed</Badge>}</h3>
        <Code text={one.text} />
      </section>
    ))}
  </>
);

const joined = (files: FileText[]): string => files.map((one) => (files.length > 1 ? `# ${one.file}\n${one.text}` : one.text)).join("\n---\n");

function download(one: FileText): void {
  const url = URL.createObjectURL(new Blob([one.text], { type: "application/yaml" }));
  const link = Object.assign(document.createElement("a"), { href: url, download: one.file });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}
