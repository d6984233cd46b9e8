import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;

public class WoodpeckerApiClient {
    private static final String API_KEY = "{YOUR_API_KEY}";

    public static void main(String[] args) {
        createMicrosoftGraphCredential();
    }

    public static void createMicrosoftGraphCredential() {
        try {
            String url = "https://api.woodpecker.co/rest/v2/mailboxes/microsoft/credentials";
            String jsonData = """
                {
                  "tenant_id": "bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32",
                  "client_id": "e1c6ac69-480e-4a17-9b85-3467967bd179",
                  "client_secret": "your-client-secret",
                  "secret_expires_at": "2027-11-28T23:59:59Z",
                  "name": "MS Graph app"
                }
                """;

            HttpClient client = HttpClient.newHttpClient();
            HttpRequest request = HttpRequest.newBuilder()
                .uri(URI.create(url))
                .header("x-api-key", API_KEY)
                .header("Content-Type", "application/json")
                .POST(HttpRequest.BodyPublishers.ofString(jsonData))
                .build();

            HttpResponse<String> response = client.send(request, HttpResponse.BodyHandlers.ofString());

            if (response.statusCode() == 201) {
                System.out.println(response.body());
            } else {
                System.err.println("Request failed: " + response.statusCode());
            }
        } catch (Exception e) {
            e.printStackTrace();
        }
    }
}
