/** docs/errors.md, made from the registry. Pure. */
import { errorCodes } from './codes.ts';

export function errorsDocument(): string {
  const rows = Object.entries(errorCodes).map(
    ([code, entry]) =>
      `| \`${code}\` | ${entry.http} | ${entry.grpc} | ${entry.retry ? 'yes' : 'no'} | ${entry.title}. | ${entry.hint.replaceAll('|', '\\|')} |`,
  );
  return `# Errors

Every error has a stable code. HTTP answers \`application/problem+json\` with \`{type, title, status, code, detail, hint, requestId}\`; an item of a batch that
failed carries the same without \`requestId\`. gRPC answers a status whose details hold the code as the \`reason\` of a \`google.rpc.ErrorInfo\` of the domain
\`pgquorum\`. *Retry* says whether repeating the same request can help; repeating a write with its \`Idempotency-Key\` is always safe.

This page is made from the registry, \`libs/core/src/errors/codes.ts\`, and compared with it by a test.

| code | HTTP | gRPC | retry | what it means | what to do |
|---|---|---|---|---|---|
${rows.join('\n')}
`;
}
