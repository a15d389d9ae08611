// Sign in: through a provider of identities where there is one, or with a token. What opens a session is told to the
// server once; the browser keeps a cookie that no script can read.

import { useQuery } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";
import { api, told } from "../../api/client";
import { signIn, useSession } from "../../session/session";
import { Mark } from "../../shell/Mark";
import { Code, ErrorBox, Note } from "../../ui/Box";
import { Button } from "../../ui/Button";
import { Field } from "../../ui/Field";
import { printable } from "../../words";
import css from "./Login.module.css";
import { placeAfter, problemOf } from "./problems";

export function Login() {
  const { ended } = useSession();
  const [token, setToken] = useState("");
  const [isBusy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>(() => problemOf(location.search));
  const ways = useQuery({ queryKey: ["login"], queryFn: ({ signal }) => told(api.GET("/v1/login", { signal })), staleTime: Infinity });
  const submit = async (event: FormEvent): Promise<void> => {
    event.preventDefault();
    setBusy(true);
    setError(null);
    try {
      await signIn(token.trim());
    } catch (refused) {
      setError(refused);
      setBusy(false);
    }
  };
  return (
    <main className={css.page}>
      <div className={css.left}>
        <div className={css.brand}><Mark size={34} /><h1>Ringfence</h1></div>
        {ended && error === null && <div role="alert"><Note>{ended}</Note></div>}
        {error !== null && <ErrorBox error={error} />}
        {ways.data?.provider && <Provider name={ways.data.name || ways.data.provider} />}
        <form className={css.form} onSubmit={(event) => void submit(event)}>
          <Field name="Access token" type="password" placeholder="rf_…" autoFocus={!ways.data?.provider} value={token} onChange={(event) => setToken(event.target.value)} help="It opens a session and is kept nowhere." />
          <Button type="submit" look={ways.data?.provider ? "plain" : "primary"} isBusy={isBusy} disabled={token.trim() === ""}>Log in</Button>
        </form>
        <details className={css.help}>
          <summary>Where do I get a token?</summary>
          <div>
            <p>The controller's first start prints the administrator's. An administrator grants others:</p>
            <Code text="ringfence token grant ann --role viewer --for 90d" />
            <p>If the first was lost, start the controller once with:</p>
            <Code text="ringfence up DIR --new-token" />
          </div>
        </details>
      </div>
      <div className={css.right}>
        <Picture />
        <p>Every connection belongs to a rule, or somebody is told.</p>
      </div>
    </main>
  );
}

/** To the provider and back to this page; a link, so that it opens like one. */
const Provider = ({ name }: { name: string }) => (
  <>
    <a className={css.provider} href={`/v1/login/oidc?${new URLSearchParams({ then: placeAfter(location.pathname, location.search) })}`}>Sign in with {printable(name)}</a>
    <p className={css.or}><span>or with a token</span></p>
  </>
);

const Picture = () => (
  <svg viewBox="0 0 440 300" aria-hidden="true">
    <circle className={css.inner} cx="220" cy="150" r="104" />
    <circle className={css.ring} cx="220" cy="150" r="104" strokeDasharray="145 18.4" strokeDashoffset="-9" strokeWidth="3" />
    <path className={css.passes} d="M60 150H102M124 150H190M250 150H316M338 150H380" strokeDasharray="none" />
    <path className={css.stops} d="M78 60 136 92M130 84v16" strokeDasharray="none" />
    <path className={css.stops} d="M362 240 304 208M310 200v16" strokeDasharray="none" />
    <rect className={css.host} x="26" y="136" width="34" height="28" rx="8" />
    <rect className={css.host} x="380" y="136" width="34" height="28" rx="8" />
    <rect className={css.host} x="46" y="38" width="34" height="28" rx="8" />
    <rect className={css.host} x="360" y="234" width="34" height="28" rx="8" />
    <rect className={css.host} x="190" y="120" width="60" height="60" rx="16" />
    <circle className={css.core} cx="220" cy="150" r="11" />
    <rect className={css.host} x="156" y="86" width="36" height="28" rx="8" />
    <rect className={css.host} x="250" y="186" width="36" height="28" rx="8" />
    <rect className={css.host} x="250" y="86" width="36" height="28" rx="8" />
    <rect className={css.host} x="156" y="186" width="36" height="28" rx="8" />
  </svg>
);
