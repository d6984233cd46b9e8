import requests


def create_microsoft_graph_credential():
    url = "https://api.woodpecker.co/rest/v2/mailboxes/microsoft/credentials"
    headers = {
        "x-api-key": "{YOUR_API_KEY}",
        "Content-Type": "application/json",
    }
    payload = {
        "tenant_id": "bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32",
        "client_id": "e1c6ac69-480e-4a17-9b85-3467967bd179",
        "client_secret": "your-client-secret",
        "secret_expires_at": "2027-11-28T23:59:59Z",
        "name": "MS Graph app",
    }

    response = requests.post(url, headers=headers, json=payload)

    if response.status_code == 201:
        print(response.json())
    else:
        print("Request failed:", response.status_code, response.text)


if __name__ == "__main__":
    create_microsoft_graph_credential()
