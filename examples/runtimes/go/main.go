// Greets a guest, and counts them.
package main

import (
	"context"
	"log"
	"os"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
)

type event struct {
	Name    string `json:"name"`
	Text    string `json:"text"`
	SleepMs int    `json:"sleep_ms"`
	Exit    *int   `json:"exit"`
}

type response struct {
	Greeting    string `json:"greeting"`
	Guests      int    `json:"guests"`
	Text        string `json:"text"`
	RequestID   string `json:"request_id"`
	Arn         string `json:"arn"`
	Function    string `json:"function"`
	RemainingMs int64  `json:"remaining_ms"`
}

// Nobody is the error of an event without a name.
type Nobody struct{}

func (Nobody) Error() string { return "nobody to greet" }

var guests int

func handler(ctx context.Context, e event) (*response, error) {
	if e.Exit != nil {
		os.Exit(*e.Exit)
	}
	time.Sleep(time.Duration(e.SleepMs) * time.Millisecond)
	if e.Name == "" {
		return nil, Nobody{}
	}
	guests++
	log.Printf("greeting %s", e.Name)
	greeting := os.Getenv("GREETING")
	if greeting == "" {
		greeting = "Hello"
	}
	lc, _ := lambdacontext.FromContext(ctx)
	deadline, _ := ctx.Deadline()
	return &response{
		Greeting:    greeting + ", " + e.Name + "!",
		Guests:      guests,
		Text:        e.Text,
		RequestID:   lc.AwsRequestID,
		Arn:         lc.InvokedFunctionArn,
		Function:    lambdacontext.FunctionName,
		RemainingMs: time.Until(deadline).Milliseconds(),
	}, nil
}

func main() {
	lambda.Start(handler)
}
