const axios = require("axios");

async function createMicrosoftGraphCredential() {
  const url = "https://api.woodpecker.co/rest/v2/mailboxes/microsoft/credentials";
  const headers = {
    "x-api-key": "{YOUR_API_KEY}",
    "Content-Type": "application/json"
  };
  const data = {
    tenant_id: "bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32",
    client_id: "e1c6ac69-480e-4a17-9b85-3467967bd179",
    client_secret: "your-client-secret",
    secret_expires_at: "2027-11-28T23:59:59Z",
    name: "MS Graph app"
  };

  try {
    const response = await axios.post(url, data, { headers });

    if (response.status === 201) {
      console.log(response.data);
    } else {
      console.error("Request failed:", response.status);
    }
  } catch (error) {
    console.error("Request error:", error.response?.status || error.message);
  }
}

createMicrosoftGraphCredential();
