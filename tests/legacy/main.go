package main

import (
	"encoding/json"
	"log"
	"net/http"
	"sync"

	"github.com/gorilla/websocket"
)

var upgrader = websocket.Upgrader{
	CheckOrigin: func(r *http.Request) bool { return true },
}

var (
	clients   = make(map[string]*websocket.Conn) // ID → connection
	clientsMu sync.RWMutex
)

// SignalMessage with peer targeting
type SignalMessage struct {
	Type      string `json:"type"`                // offer, answer, candidate, join, peer-joined, peer-left, peer-list
	From      string `json:"from,omitempty"`      // sender ID
	To        string `json:"to,omitempty"`        // target peer ID
	PeerID    string `json:"peerId,omitempty"`    // for join/peer-joined/peer-left
	Peers     []string `json:"peers,omitempty"`   // for peer-list
	SDP       string `json:"sdp,omitempty"`
	Candidate any    `json:"candidate,omitempty"`
}

type message struct {
	data   []byte
	sender string
}

var broadcast = make(chan message, 256)

func main() {
	http.HandleFunc("/ws", handleWS)

	go relay()

	log.Println("Signaling server on :8080")
	http.ListenAndServe(":8080", nil)
}

func handleWS(w http.ResponseWriter, r *http.Request) {
	conn, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		log.Println("upgrade:", err)
		return
	}

	// Wait for join message to get peer ID
	_, msg, err := conn.ReadMessage()
	if err != nil {
		conn.Close()
		return
	}

	var joinMsg SignalMessage
	if err := json.Unmarshal(msg, &joinMsg); err != nil || joinMsg.Type != "join" {
		conn.Close()
		return
	}

	peerID := joinMsg.PeerID
	log.Printf("client joined: %s", peerID)

	// Send existing peers to new client
	clientsMu.RLock()
	existingPeers := make([]string, 0, len(clients))
	for id := range clients {
		existingPeers = append(existingPeers, id)
	}
	clientsMu.RUnlock()

	peerListMsg, _ := json.Marshal(SignalMessage{
		Type:  "peer-list",
		Peers: existingPeers,
	})
	conn.WriteMessage(websocket.TextMessage, peerListMsg)

	// Add new client
	clientsMu.Lock()
	clients[peerID] = conn
	clientsMu.Unlock()

	// Notify others about new peer
	joinNotify, _ := json.Marshal(SignalMessage{
		Type:   "peer-joined",
		PeerID: peerID,
	})
	broadcast <- message{data: joinNotify, sender: peerID}

	// Read loop
	for {
		_, msg, err := conn.ReadMessage()
		if err != nil {
			log.Printf("client disconnected: %s", peerID)
			break
		}
		broadcast <- message{data: msg, sender: peerID}
	}

	// Cleanup
	clientsMu.Lock()
	delete(clients, peerID)
	clientsMu.Unlock()
	conn.Close()

	// Notify others about peer leaving
	leaveNotify, _ := json.Marshal(SignalMessage{
		Type:   "peer-left",
		PeerID: peerID,
	})
	broadcast <- message{data: leaveNotify, sender: peerID}
}

func relay() {
	for msg := range broadcast {
		var signal SignalMessage
		if err := json.Unmarshal(msg.data, &signal); err != nil {
			continue
		}

		clientsMu.RLock()
		if signal.To != "" {
			// Targeted message: send to specific peer
			if conn, ok := clients[signal.To]; ok {
				conn.WriteMessage(websocket.TextMessage, msg.data)
			}
		} else {
			// Broadcast to all others
			for id, conn := range clients {
				if id != msg.sender {
					conn.WriteMessage(websocket.TextMessage, msg.data)
				}
			}
		}
		clientsMu.RUnlock()
	}
}
