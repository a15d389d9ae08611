/** The mark: a ring with gates around what it protects. */
export const Mark = ({ size = 24 }: { size?: number }) => (
  <svg viewBox="0 0 24 24" width={size} height={size} aria-hidden="true">
    <circle cx="12" cy="12" r="9.5" fill="none" stroke="currentColor" strokeWidth="2" strokeDasharray="17.9 2" />
    <circle cx="12" cy="12" r="3.5" fill="currentColor" />
  </svg>
);
