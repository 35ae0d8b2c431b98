/** A ready-made request for whoever wants to try an endpoint. */
export function curlLine(url: string, model: string, question: string): string {
  const body = JSON.stringify({ model, stream: true, messages: [{ role: "user", content: question }] });
  return `curl -N ${url}/v1/chat/completions -H 'content-type: application/json' -d '${body}'`;
}
