curl --request POST \
  --url "https://api.woodpecker.co/rest/v2/mailboxes/microsoft/credentials" \
  --header "x-api-key: {YOUR_API_KEY}" \
  --header "Content-Type: application/json" \
  --data '{
    "tenant_id": "bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32",
    "client_id": "e1c6ac69-480e-4a17-9b85-3467967bd179",
    "client_secret": "your-client-secret",
    "secret_expires_at": "2027-11-28T23:59:59Z",
    "name": "MS Graph app"
  }'
