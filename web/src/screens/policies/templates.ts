// What a new policy may begin as. Names and labels are put in; the checker tells what is left to say.

export interface Wanted {
  name: string;
  owner: string;
  scope: string;
}

export interface Template {
  id: "ringfence" | "tiers" | "guardrails" | "blank";
  name: string;
  help: string;
  isScoped: boolean;
  text: (wanted: Wanted) => string;
}

const head = ({ name, owner, scope }: Wanted): string => [`policy: ${name}`, owner && `owner: ${quoted(owner)}`, scope && `scope: ${quoted(scope)}`].filter(Boolean).join("\n");

export const TEMPLATES: readonly Template[] = [
  {
    id: "ringfence", name: "Ring-fence an application", isScoped: true, help: "Its workloads talk to each other, nobody else comes in.",
    text: (wanted) => `${head(wanted)}

segments:
  app: ${quoted(wanted.scope)}

rules:
  - name: inside
    allow: {from: app, to: app, service: any}
    because: the parts of one application talk to each other

tests:
  - {from: internet, to: app, expect: blocked}
`,
  },
  {
    id: "tiers", name: "Tiers", isScoped: true, help: "Web to API to database, each on its own port.",
    text: (wanted) => `${head(wanted)}

segments:
  web: role=web
  api: role=api
  db: {selector: role=db, crown_jewel: true}

rules:
  - allow: {from: internet, to: web, service: https}
  - allow: {from: web, to: api, service: tcp/8080}
  - allow: {from: api, to: db, service: tcp/5432}

tests:
  - {from: web, to: api, service: tcp/8080, expect: allowed}
  - {from: web, to: db, expect: blocked}
  - {from: internet, to: db, expect: blocked}
`,
  },
  {
    id: "guardrails", name: "Guardrails", isScoped: false, help: "What nobody may allow, whatever their own policy says.",
    text: (wanted) => `${head({ ...wanted, scope: "" })}

rules:
  - name: no-dev-in-prod
    forbid: {from: env=dev, to: env=prod}
  - name: no-risky-services
    deny: {from: anyone, to: anyone, service: [rdp, smb, telnet, winrm]}

tests:
  - {from: env=dev, to: env=prod, expect: blocked}
`,
  },
  { id: "blank", name: "Blank", isScoped: true, help: "Name, owner and scope; the rest is yours.", text: (wanted) => `${head(wanted)}\n\nrules:\n` },
];

const quoted = (text: string): string => (/[,:{}[\]#"']/.test(text) ? JSON.stringify(text) : text);

/** Why a name cannot be a policy's; empty: it can. */
export function wrongName(name: string, taken: readonly string[]): string {
  if (!name) return "";
  if (!/^[a-z0-9][a-z0-9_-]*$/.test(name)) return "small letters, digits and dashes, as in shop-prod";
  return taken.includes(name) || taken.includes(fileOf(name)) ? "there is one of this name" : "";
}

export const fileOf = (name: string): string => `${name}.yaml`;
