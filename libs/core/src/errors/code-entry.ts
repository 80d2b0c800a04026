/** What the registry says of one code. Pure. */
export type GrpcStatus =
  | 'INVALID_ARGUMENT'
  | 'NOT_FOUND'
  | 'ALREADY_EXISTS'
  | 'PERMISSION_DENIED'
  | 'UNAUTHENTICATED'
  | 'RESOURCE_EXHAUSTED'
  | 'FAILED_PRECONDITION'
  | 'ABORTED'
  | 'UNIMPLEMENTED'
  | 'INTERNAL'
  | 'UNAVAILABLE'
  | 'DEADLINE_EXCEEDED';

export interface CodeEntry {
  readonly http: number;
  readonly grpc: GrpcStatus;
  readonly retry: boolean;
  readonly title: string;
  readonly hint: string;
}

export const entry = (
  http: number,
  grpc: GrpcStatus,
  retry: boolean,
  title: string,
  hint: string,
): CodeEntry => ({
  http,
  grpc,
  retry,
  title,
  hint,
});
